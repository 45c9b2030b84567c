"""Code shared by the Python servers."""

import socket

import uvicorn
from pydantic import BaseModel


class Name(BaseModel):
    name: str


def rounds(responses):
    """Returns the result of the tool `ask` for 2026-07-28: first a question, then the text."""
    from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

    if responses:
        return f"hello {responses['who'].content['name']}"
    params = ElicitRequestFormParams(message="Your name?", requested_schema=Name.model_json_schema())
    return InputRequiredResult(input_requests={"who": ElicitRequest(params=params)})


def serve(app) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    # Open streams must not delay the exit.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])
