"""fastapi-mcp, which supports authorization of protocol version 2025-03-26: no resource metadata, and
authorization server metadata at its own origin that names the endpoints of another server."""

import os

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi_mcp import AuthConfig, FastApiMCP

port = int(os.environ["PORT"])
other = f"http://localhost:{os.environ['AUTH_PORT']}"


async def caller(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{other}/introspect", data={"token": token or "none"})
    if scheme != "Bearer" or not answer.json().get("active"):
        raise HTTPException(status_code=401, detail="Unauthorized")
    return answer.json()["client_id"]


app = FastAPI()


@app.get("/who", operation_id="who")
async def who(client: str = Depends(caller)) -> str:
    return client


auth = AuthConfig(
    custom_oauth_metadata={
        "issuer": f"http://localhost:{port}",
        "authorization_endpoint": f"{other}/authorize",
        "token_endpoint": f"{other}/token",
        "registration_endpoint": f"{other}/register",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
    },
    dependencies=[Depends(caller)],
)
FastApiMCP(app, name="fastapi", auth_config=auth).mount_http()
uvicorn.run(app, host="localhost", port=port)
