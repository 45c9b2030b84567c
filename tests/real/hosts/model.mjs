// A stand-in for the model APIs, on loopback: hosts that need a model to stay up get
// "ok" as the answer to everything. No result depends on it.

import { once } from "node:events";
import { createServer } from "node:http";

const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
const event = (data) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;
const data = (value) => `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;

/** Anthropic Messages. */
function messages(model, stream) {
  const message = { id: "msg_1", type: "message", role: "assistant", model, content: [], stop_reason: null, stop_sequence: null, usage };
  if (!stream) return { ...message, content: [{ type: "text", text: "ok" }], stop_reason: "end_turn" };
  return [
    { type: "message_start", message },
    { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "ok" } },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage },
    { type: "message_stop" },
  ].map(event).join("");
}

/** OpenAI Responses. */
function responses(model) {
  const item = { type: "message", id: "msg_1", role: "assistant", status: "completed", content: [{ type: "output_text", text: "ok", annotations: [] }] };
  const response = { id: "resp_1", object: "response", model, status: "completed", output: [item], usage };
  return [
    { type: "response.created", response: { ...response, status: "in_progress", output: [] } },
    { type: "response.output_item.done", output_index: 0, item },
    { type: "response.completed", response },
  ].map(event).join("");
}

/** OpenAI Chat Completions. */
function completions(model, stream) {
  const tokens = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
  if (!stream) {
    const message = { role: "assistant", content: "ok" };
    return { id: "1", object: "chat.completion", model, choices: [{ index: 0, message, finish_reason: "stop" }], usage: tokens };
  }
  const chunk = (delta, finish_reason) => ({ id: "1", object: "chat.completion.chunk", model, choices: [{ index: 0, delta, finish_reason }] });
  return [chunk({ role: "assistant", content: "ok" }, null), { ...chunk({}, "stop"), usage: tokens }, "[DONE]"].map(data).join("");
}

/** Gemini. */
function gemini(stream) {
  const answer = {
    candidates: [{ index: 0, content: { role: "model", parts: [{ text: "ok" }] }, finishReason: "STOP" }],
    usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 },
  };
  return stream ? data(answer) : answer;
}

function answer(pathname, { model, stream }) {
  if (pathname.endsWith("/count_tokens")) return { input_tokens: 1 };
  if (pathname.endsWith(":countTokens")) return { totalTokens: 1 };
  if (pathname.endsWith("/messages")) return messages(model, stream);
  if (pathname.endsWith("/responses")) return responses(model);
  if (pathname.endsWith("/completions")) return completions(model, stream);
  if (pathname.includes("enerateContent")) return gemini(pathname.includes(":stream"));
  return { object: "list", data: [], models: [] };
}

export async function startModel() {
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) text += chunk;
    let body = {};
    try {
      body = JSON.parse(text);
    } catch {
      // not a request to a model
    }
    const said = answer(request.url.replace(/\?.*/, ""), body);
    const isStream = typeof said === "string";
    response.setHeader("content-type", isStream ? "text/event-stream" : "application/json");
    response.end(isStream ? said : JSON.stringify(said));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}
