"""What the Python servers share."""

import socket

import uvicorn
from pydantic import BaseModel


class Name(BaseModel):
    name: str


def rounds(responses):
    """The answer of the tool `ask` in the 2026-07-28 revision: a question, then the text."""
    from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

    if responses:
        return f"hello {responses['who'].content['name']}"
    params = ElicitRequestFormParams(message="Your name?", requested_schema=Name.model_json_schema())
    return InputRequiredResult(input_requests={"who": ElicitRequest(params=params)})


def serve(app) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    # Open streams do not delay the end.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])
