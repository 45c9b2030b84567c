"""A FastMCP client, 2.x or 4.x, with the methods of the SDK's 2.x `Client` that `host_python.py` calls."""

import anyio
import fastmcp
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StdioTransport

try:
    from mcp_types import Implementation
except ImportError:
    from mcp.types import Implementation

IS_LEGACY = fastmcp.__version__.startswith("2.")


class Client:
    def __init__(
        self,
        where,
        mode,
        message_handler,
        elicitation_callback,
        logging_callback,
        sampling_callback=None,
        list_roots_callback=None,
    ) -> None:
        async def on_message(message) -> None:
            await message_handler(getattr(message, "root", message))

        async def elicit(_message, _type, params, context):
            answer = await elicitation_callback(context, params)
            return ElicitResult(action=answer.action, content=answer.content)

        async def sample(_messages, params, context):
            return await sampling_callback(context, params)

        async def roots(context):
            return (await list_roots_callback(context)).roots

        transport = where
        if not isinstance(where, str):
            transport = StdioTransport(where.command, where.args, where.env, keep_alive=False)
        # `mode` exists in 4.x only. mcp-remote does not know this name, so it does not expect a fallback.
        options = {} if IS_LEGACY else {"mode": mode}
        self.client = fastmcp.Client(
            transport,
            client_info=Implementation(name="eras-fastmcp", version="1.0.0"),
            message_handler=on_message,
            elicitation_handler=elicit,
            log_handler=logging_callback,
            sampling_handler=sampling_callback and sample,
            roots=list_roots_callback and roots,
            **options,
        )

    async def __aenter__(self) -> "Client":
        await self.client.__aenter__()
        if IS_LEGACY:
            self.protocol_version = self.client.initialize_result.protocolVersion
            self.server_capabilities = self.client.initialize_result.capabilities
        else:
            self.protocol_version = self.client.session.protocol_version
            self.server_capabilities = self.client.session.server_capabilities
        return self

    async def __aexit__(self, *error) -> None:
        await self.client.__aexit__(None, None, None)

    async def list_tools(self):
        return await self.client.list_tools_mcp()

    async def list_resources(self):
        return await self.client.list_resources_mcp()

    async def list_prompts(self):
        return await self.client.list_prompts_mcp()

    async def read_resource(self, uri):
        return await self.client.read_resource_mcp(uri)

    async def get_prompt(self, name, arguments):
        return await self.client.get_prompt_mcp(name, arguments)

    async def complete(self, reference, argument):
        return await self.client.complete_mcp(reference, argument)

    async def set_logging_level(self, level):
        return await self.client.set_logging_level(level)

    async def call_tool(self, name, arguments, progress_callback=None, **options):
        request = getattr(self.client.session, "_request_id", None)
        try:
            return await self.client.call_tool_mcp(name, arguments, progress_handler=progress_callback, **options)
        except anyio.get_cancelled_exc_class():
            if IS_LEGACY:  # 4.x cancels the request itself
                with anyio.CancelScope(shield=True):
                    await self.client.cancel(request)
            raise

    def listen(self, **filters):
        from mcp.client.subscriptions import listen

        return listen(self.client.session, **filters)

    async def subscribe_resource(self, uri):
        from pydantic import AnyUrl

        return await self.client.session.subscribe_resource(AnyUrl(uri))

    async def unsubscribe_resource(self, uri):
        from pydantic import AnyUrl

        return await self.client.session.unsubscribe_resource(AnyUrl(uri))
