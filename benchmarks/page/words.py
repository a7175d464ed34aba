"""What the page says of each section: its title, and what is measured there and how."""

WORDS = {
    "throughput": (
        "Requests per second at saturation",
        (
            "One core for each system, requests of 1 kB, connections kept alive. By CPU: what the whole core would do "
            "at the same cost, whoever else used it. More is better."
        ),
    ),
    "connections": (
        "Throughput against load",
        "Requests per second with so many connections, each of which asks again as soon as it is answered.",
    ),
    "latency": (
        "Latency against load",
        (
            "What a system adds to the provider's own latency at a fixed rate. Requests are sent when they are due, "
            "whether or not earlier ones are answered, so that a stall counts for all that it delayed. Less is better."
        ),
    ),
    "distribution": (
        "Distribution of the overhead",
        "The added latency below which so many percent of the requests stay. Each further nine has the same room.",
    ),
    "ttft": (
        "Time to first token",
        "What a system adds to the time until the first token of a stream arrives. Less is better.",
    ),
    "ttft-streams": (
        "Time to first token by number of streams",
        "The same with so many streams that begin little by little.",
    ),
    "cpu": (
        "CPU per request",
        "At saturation, by the process's own CPU clock: the steadiest figure on a busy machine. Less is better.",
    ),
    "chunk": (
        "CPU per streamed chunk",
        "For each relayed event of a stream, by the process's own CPU clock. Less is better.",
    ),
    "streams": (
        "Chunk delay by number of streams",
        "What a system adds to the delay of each chunk, with so many streams side by side. Less is better.",
    ),
    "memory": (
        "Memory",
        "Of all processes of a system, shared pages in part. At rest: started, and not yet asked. Less is better.",
    ),
    "policies": (
        "Cost of each policy",
        (
            "How much more CPU a request takes with one policy switched on than with none, by pairs of runs beside "
            "each other; at the end with all of them."
        ),
    ),
    "cache": ("Cache hits", "CPU of a request that the cache answers, beside one that the provider answers."),
    "bodies": ("Cost by size of the body", "CPU per request with larger prompts."),
    "pins": (
        "Cost by number of pins",
        "CPU per request with so many names in the pin file. It ought to be level.",
    ),
    "swaps": (
        "Swap under load",
        "p99 of the latency in the second after the pin file is replaced, beside the second before.",
    ),
    "stalls": (
        "Stalls of the event loop",
        "The greatest gap between two turns of the loop, in CPU time of the process, while something large happens.",
    ),
    "startup": (
        "Start-up and import",
        "From the start of the process until it takes connections; and the import of the package alone.",
    ),
}
