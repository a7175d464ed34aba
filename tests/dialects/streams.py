"""Recorded streams of each dialect, as they come over the wire, for the meters' tests."""

from __future__ import annotations

CHAT = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-5.4-2025-11-02","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null,"obfuscation":"aa"}\n\n'
    b'data: {"model":"gpt-5.4-2025-11-02","choices":[{"index":0,"delta":{"content":"H\xc3\xa4"},"finish_reason":null}],'
    b'"usage":null}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"llo"},"finish_reason":null}],"usage":null}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":'
    b'{"cached_tokens":4,"cache_write_tokens":1},"completion_tokens_details":{"reasoning_tokens":7}}}\n\n'
    b"data: [DONE]\n\n"
)

RESPONSES = (
    b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"r","model":'
    b'"gpt-5.4-2025-11-02","status":"in_progress","usage":null}}\n\n'
    b'event: response.in_progress\ndata: {"type":"response.in_progress","sequence_number":1,"response":{"id":"r"}}\n\n'
    b'event: response.output_item.added\ndata: {"type":"response.output_item.added","item":{"type":"message"}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi","obfuscation":"x"}\n\n'
    b'event: response.function_call_arguments.delta\ndata: {"type":"response.function_call_arguments.delta",'
    b'"delta":"{}"}\n\n'
    b'event: response.output_text.done\ndata: {"type":"response.output_text.done","text":"Hi"}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r","model":"gpt-5.4-2025-11-02",'
    b'"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},"output_tokens":12,'
    b'"output_tokens_details":{"reasoning_tokens":7},"total_tokens":21}}}\n\n'
)

ANTHROPIC = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"claude-sonnet-5-20260112",'
    b'"usage":{"input_tokens":4,"cache_creation_input_tokens":1,"cache_read_input_tokens":4,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text",'
    b'"text":""}}\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":"Hi"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use",'
    b'"id":"t","name":"f","input":{}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta",'
    b'"partial_json":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta",'
    b'"partial_json":"{}"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":'
    b"7}}\n\n"
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":'
    b'12,"output_tokens_details":{"reasoning_tokens":7}}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)

GEMINI = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"H\xc3\xa4"}],"role":"model"},"index":0}],"usageMetadata":'
    b'{"promptTokenCount":8,"totalTokenCount":8},"modelVersion":"gemini-3-pro-002"}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}]}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[{"text":""}]},"finishReason":"STOP","index":0}],"usageMetadata":'
    b'{"promptTokenCount":8,"toolUsePromptTokenCount":1,"candidatesTokenCount":5,"thoughtsTokenCount":7,'
    b'"cachedContentTokenCount":4,"totalTokenCount":21},"modelVersion":"gemini-3-pro-002"}\r\n\r\n'
)
