"""Code shared by the Python servers."""

import socket

import uvicorn
from pydantic import BaseModel


NOTE = "note://one"
MESSAGE = "Say something"
SAMPLED = "sampled "
CHOSEN = "the user chose "
NAMES = "first {}, then {} and {}"


class Name(BaseModel):
    name: str


def rounds(responses):
    """Returns the result of the tool `ask` for 2026-07-28: first a question, then the text."""
    from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

    if responses:
        return f"hello {responses['who'].content['name']}"
    params = ElicitRequestFormParams(message="Your name?", requested_schema=Name.model_json_schema())
    return InputRequiredResult(input_requests={"who": ElicitRequest(params=params)})


def asks(responses, what: str, say, url: str = ""):
    """Returns the result of a tool that needs one answer: first the request, then the text."""
    from mcp_types import (
        CreateMessageRequest,
        CreateMessageRequestParams,
        ElicitRequest,
        ElicitRequestURLParams,
        InputRequiredResult,
        ListRootsRequest,
        SamplingMessage,
        TextContent,
    )

    if responses:
        return say(responses["it"])
    messages = [SamplingMessage(role="user", content=TextContent(type="text", text=MESSAGE))]
    request = {
        "sample": lambda: CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=10)),
        "roots": lambda: ListRootsRequest(),
        "url": lambda: ElicitRequest(params=ElicitRequestURLParams(message="Please visit this page", url=url)),
    }[what]
    return InputRequiredResult(input_requests={"it": request()})


def twice(responses, state):
    """Returns the result of the tool `twice`: one question, then two at once, then the text."""
    from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

    def question(message: str) -> ElicitRequest:
        params = ElicitRequestFormParams(message=message, requested_schema=Name.model_json_schema())
        return ElicitRequest(params=params)

    if not responses:
        return InputRequiredResult(input_requests={"a": question("Your name?")}, request_state="first")
    names = {key: answer.content["name"] for key, answer in responses.items()}
    if "a" in names:
        requests = {"b": question("And yours?"), "c": question("And theirs?")}
        return InputRequiredResult(input_requests=requests, request_state=names["a"])
    return NAMES.format(state, names["b"], names["c"])


def serve(app) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    # Open streams must not delay the exit.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])
