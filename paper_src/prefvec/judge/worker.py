"""The llama.cpp server's own process: prints its address, serves until its input is closed.

It is run as a file and imports nothing of the library, so that it starts at once.
"""

import json
import sys


def main() -> None:
    """Serve the GGUF file that the first argument (JSON: path, context, parallel, threads) names."""
    import xllamacpp

    given = json.loads(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = given["path"]
    params.n_ctx = given["context"] * given["parallel"]
    params.n_parallel = given["parallel"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given["threads"]
    params.warmup, params.verbosity = False, -1
    params.hostnames, params.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()  # ends when the parent closes it, or ends itself


if __name__ == "__main__":
    main()
