"""The library through its C interface: the declarations of include/klshampoo.h that are needed here, and an optimizer over them."""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p, sizeof
from pathlib import Path

MAX_ORDER = 6
MAX_ROW_PARTS = 8

OK = 0
ERROR_STRUCT_SIZE = 2

METHODS = {"KL-Shampoo": 0, "AdamW": 1, "KL-SOAP": 2, "SOAP": 3, "Shampoo": 4}
CONVENTION_FIGURE13 = 0


class Config(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("estimator", c_int32),
        ("max_dim", c_uint64),
        ("block_size", c_uint64),
        ("merge_dims", c_uint64),
        ("estimate_order", c_int32),
        ("eigenvalues", c_int32),
        ("refresh", c_int32),
        ("sort", c_int32),
        ("refresh_period", c_uint32),
        ("refresh_offset", c_uint32),
        ("stagger", c_int32),
        ("refresh_growth", c_uint32),
        ("staleness", c_float),
        ("direction", c_int32),
        ("power", c_float),
        ("graft", c_int32),
        ("rms_cap", c_float),
        ("step_order", c_int32),
        ("first_step", c_int32),
        ("first_basis", c_int32),
        ("factor_init", c_int32),
        ("lambda_init", c_int32),
        ("lambda_0", c_float),
        ("momentum", c_int32),
        ("beta1", c_float),
        ("beta2", c_float),
        ("bias_correction", c_int32),
        ("eps", c_float),
        ("damping", c_int32),
        ("weight_decay", c_float),
        ("weight_decay_kind", c_int32),
        ("clamp_limit", c_float),
        ("gauge", c_int32),
        ("bad_gradient", c_int32),
        ("measure", c_int32),
        ("lr_scale", c_float),
    ]


class Tensor(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("group", c_uint32),
        ("order", c_uint32),
        ("row_part_count", c_uint32),
        ("dims", c_uint64 * MAX_ORDER),
        ("modes", c_int32 * MAX_ORDER),
        ("slices", c_uint64),
        ("slice_stride", c_uint64),
        ("row_parts", c_uint64 * MAX_ROW_PARTS),
    ]


class Options(Structure):
    _fields_ = [("struct_size", c_uint32), ("num_threads", c_uint32), ("backend", c_int32), ("products", c_int32)]


class Counters(Structure):
    _fields_ = [
        ("steps", c_uint64),
        ("refreshes", c_uint32),
        ("refresh_failures", c_uint32),
        ("skipped", c_uint32),
        ("floored", c_uint32),
        ("clamped", c_uint32),
        ("rebalanced", c_uint32),
        ("refreshes_skipped", c_uint32),
        ("capped", c_uint32),
        ("update_rms", c_float),
        ("update_cosine", c_float),
    ]


class KlsError(RuntimeError):
    """A status that is not KLS_OK, or a library that is not the one declared above."""


class Library:
    def __init__(self, path: Path):
        self.dll = ctypes.CDLL(str(path))
        declare(self.dll)
        self.notes: list[str] = []
        # The layouts above are only as good as the library's check of their sizes.
        space = (c_uint64 * 64)()
        if self.dll.kls_options_init(space, sizeof(c_uint32)) != ERROR_STRUCT_SIZE:
            raise KlsError("kls_options_init takes a struct of four bytes: sizes are not checked")

    def check(self, status: int, call: str) -> None:
        if status != OK:
            raise KlsError(f"{call}: {self.dll.kls_status_string(status).decode()} ({status})")

    def version(self) -> str:
        return self.dll.kls_version().decode()

    def config(self, method: str) -> Config:
        return self._filled(
            Config, lambda at, size: self.dll.kls_config_init(at, size, METHODS[method], CONVENTION_FIGURE13), "kls_config_init"
        )

    def options(self) -> Options:
        return self._filled(Options, self.dll.kls_options_init, "kls_options_init")

    def tensor(self, at: Tensor, shape: Sequence[int]) -> None:
        dims = (c_uint64 * len(shape))(*shape)
        self.check(self.dll.kls_tensor_init(byref(at), sizeof(Tensor), len(shape), dims), "kls_tensor_init")

    def _filled(self, kind: type[Structure], init: Callable[[object, int], int], call: str) -> Structure:
        """A struct with its defaults. A newer library may have fields after those declared here; they keep their defaults."""
        declared = sizeof(kind)
        for size in range(declared, 2 * declared, sizeof(c_uint32)):
            memory = (c_uint64 * -(-size // sizeof(c_uint64)))()
            status = init(memory, size)
            if status != ERROR_STRUCT_SIZE:
                break
        self.check(status, f"{call} with {declared} bytes and up")
        filled = kind.from_buffer(memory)
        if filled.struct_size != size:
            raise KlsError(f"{call} says {filled.struct_size} bytes where it was given {size}")
        note = f"{call} fills {size} bytes, {declared} of them are declared in klshampoo.py; the fields after those keep their defaults"
        if size != declared and note not in self.notes:
            self.notes.append(note)
        return filled


def declare(dll: ctypes.CDLL) -> None:
    functions = {
        "kls_version": (c_char_p, []),
        "kls_status_string": (c_char_p, [c_int32]),
        "kls_config_init": (c_int32, [c_void_p, c_size_t, c_int32, c_int32]),
        "kls_options_init": (c_int32, [c_void_p, c_size_t]),
        "kls_tensor_init": (c_int32, [c_void_p, c_size_t, c_uint32, c_void_p]),
        "kls_optimizer_create": (c_int32, [POINTER(c_void_p), c_void_p, c_size_t, c_void_p, c_size_t, c_void_p]),
        "kls_optimizer_destroy": (c_int32, [POINTER(c_void_p)]),
        "kls_optimizer_step": (c_int32, [c_void_p, c_void_p, c_void_p, c_size_t, c_float]),
        "kls_optimizer_counters": (c_int32, [c_void_p, c_size_t, c_size_t, c_void_p, c_size_t]),
        "kls_optimizer_predicted_flops": (c_int32, [c_void_p, c_uint64, POINTER(c_uint64)]),
        "kls_optimizer_state_bytes": (c_int32, [c_void_p, POINTER(c_size_t)]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(dll, name)
        function.restype, function.argtypes = result, arguments


class Optimizer:
    """One group of tensors. `params` and `grads` are the addresses of their elements, which the caller keeps alive."""

    def __init__(
        self, library: Library, config: Config, threads: int, shapes: Sequence[Sequence[int]], params: list[int], grads: list[int]
    ):
        self.library, self.dll, self.count = library, library.dll, len(shapes)
        tensors = (Tensor * self.count)()
        for tensor, shape in zip(tensors, shapes, strict=True):
            library.tensor(tensor, shape)
        options = library.options()
        options.num_threads = threads
        self.params = (c_void_p * self.count)(*params)
        self.grads = (c_void_p * self.count)(*grads)
        self.handle = c_void_p()
        created = self.dll.kls_optimizer_create(byref(self.handle), byref(config), 1, tensors, self.count, byref(options))
        library.check(created, "kls_optimizer_create")

    def step(self, learning_rate: float) -> None:
        self.library.check(
            self.dll.kls_optimizer_step(self.handle, self.params, self.grads, self.count, learning_rate), "kls_optimizer_step"
        )

    def refreshes(self) -> int:
        """Of all eigenbases so far. One that failed is an error: its time would be another's."""
        total = 0
        counters = Counters()
        for tensor in range(self.count):
            status = self.dll.kls_optimizer_counters(self.handle, tensor, 0, byref(counters), sizeof(Counters))
            self.library.check(status, "kls_optimizer_counters")
            if counters.refresh_failures:
                raise KlsError(f"{counters.refresh_failures} refreshes of tensor {tensor} failed")
            total += counters.refreshes
        return total

    def predicted_flops(self, step: int) -> int:
        flops = c_uint64()
        self.library.check(self.dll.kls_optimizer_predicted_flops(self.handle, step, byref(flops)), "kls_optimizer_predicted_flops")
        return flops.value

    def state_bytes(self) -> int:
        size = c_size_t()
        self.library.check(self.dll.kls_optimizer_state_bytes(self.handle, byref(size)), "kls_optimizer_state_bytes")
        return size.value

    def close(self) -> None:
        self.library.check(self.dll.kls_optimizer_destroy(byref(self.handle)), "kls_optimizer_destroy")
