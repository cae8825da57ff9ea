from fastconv._checks import FloatArray

def response_norm(
    x: FloatArray,
    grad_output: FloatArray | None,
    before: int,
    after: int,
    scale: float,
    beta: float,
    k: float,
    num_threads: int,
) -> FloatArray: ...
