"""The endpoints as tools of an MCP server, called by an MCP client."""

import json
import re

import pytest
from app_server import save_tiny, served
from conftest import tiny_pipeline
from demo_parts import awaited

mcp = pytest.importorskip("mcp", reason="MCP is not installed: pip install 'gradio[mcp]'")


async def used(address, use):
    from mcp.client.streamable_http import streamablehttp_client

    async with (
        streamablehttp_client(f"{address}gradio_api/mcp/") as (read, write, _),
        mcp.ClientSession(read, write) as client,
    ):
        await client.initialize()
        return await use(client)


def test_tools_answer_and_callers_stay_apart(tmp_path):
    async def first(client):
        names = {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("reconstruct", {"seed": 5, "preset": "instant"})
        return names, answer

    async def second(client):
        nameless = await client.call_tool("relight", {})
        named = await client.call_tool("relight", {"result_id": result_id})
        return nameless, named

    with served(save_tiny(tiny_pipeline(), tmp_path / "checkpoint"), root=tmp_path / "work") as (address, _):
        names, answer = awaited(used(address, first))
        assert names == {"reconstruct", "relight", "rotate", "sample", "download", "stop"}
        assert not answer.isError
        text = json.dumps([content.text for content in answer.content if content.type == "text"])
        result_id = re.search(r"result_id\W+([\w-]{16,})", text)[1]
        nameless, named = awaited(used(address, second))
        assert "name the result_id" in json.dumps([c.text for c in nameless.content if c.type == "text"]).lower()
        assert not named.isError
        assert any(content.type == "image" for content in named.content)
