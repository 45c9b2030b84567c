"""A client of the Python SDK 1.x with the methods of the 2.x `Client` that `host_python.py` calls."""

from contextlib import AsyncExitStack

import anyio
from mcp import ClientSession
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CancelledNotification, CancelledNotificationParams, ClientNotification
from pydantic import AnyUrl


class Client:
    def __init__(self, where, mode, message_handler, **callbacks) -> None:
        async def on_message(message) -> None:
            await message_handler(getattr(message, "root", message))

        self.where = where
        self.options = {**callbacks, "message_handler": on_message}

    async def __aenter__(self) -> "Client":
        self.stack = AsyncExitStack()
        connect = streamable_http_client if isinstance(self.where, str) else stdio_client
        read, write, *_ = await self.stack.enter_async_context(connect(self.where))
        self.session = await self.stack.enter_async_context(ClientSession(read, write, **self.options))
        try:
            introduction = await self.session.initialize()
        except Exception:
            await self.stack.aclose()
            raise
        self.protocol_version = introduction.protocolVersion
        self.server_capabilities = introduction.capabilities
        return self

    async def __aexit__(self, *error) -> None:
        await self.stack.aclose()

    def __getattr__(self, name: str):
        return getattr(self.session, name)

    async def call_tool(self, name, arguments, **options):
        request = self.session._request_id  # the SDK has no other way to cancel a request
        try:
            return await self.session.call_tool(name, arguments, **options)
        except anyio.get_cancelled_exc_class():
            params = CancelledNotificationParams(requestId=request)
            with anyio.CancelScope(shield=True):
                await self.session.send_notification(ClientNotification(CancelledNotification(params=params)))
            raise

    async def read_resource(self, uri: str):
        return await self.session.read_resource(AnyUrl(uri))

    async def subscribe_resource(self, uri: str):
        return await self.session.subscribe_resource(AnyUrl(uri))

    async def unsubscribe_resource(self, uri: str):
        return await self.session.unsubscribe_resource(AnyUrl(uri))
