# SPDX-License-Identifier: GPL-3.0-or-later
"""libseccomp (Debian: libseccomp2), as far as it takes to turn rules into a BPF program.

The library is loaded when `open_library` is called, which only compiling a filter needs; loading
a compiled one is `launcher.sys.process.load_seccomp`.
"""

from __future__ import annotations

import ctypes
import errno
import os

from launcher.typed import Final, NamedTuple

__all__ = ["Comparison", "Filter", "Library", "open_library"]

# enum scmp_filter_attr
_ATTR_BADARCH: Final = 2
_ATTR_NNP: Final = 3
_ATTR_OPTIMIZE: Final = 8

_NR_ERROR: Final = -1


class Comparison(NamedTuple):
    """A condition on one argument: `operator` of enum scmp_compare; `second` of MASKED_EQ."""

    argument: int
    operator: int
    first: int
    second: int = 0


class _ArgCmp(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class Library:
    """The loaded library: names to numbers, and new filters."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_init.argtypes = (ctypes.c_uint32,)
        library.seccomp_release.argtypes = (ctypes.c_void_p,)
        library.seccomp_release.restype = None
        library.seccomp_arch_native.restype = ctypes.c_uint32
        library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
        library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
        library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
        library.seccomp_rule_add_array.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_void_p,
        )
        library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
        self._library = library

    def number(self, name: bytes) -> int | None:
        """A system call by the name it has on any architecture; a pseudo number is negative."""
        number: int = self._library.seccomp_syscall_resolve_name(name)
        return None if number == _NR_ERROR else number

    def number_on(self, architecture: int, name: bytes) -> int | None:
        """The real number of a system call on one architecture, if it exists there."""
        number: int = self._library.seccomp_syscall_resolve_name_arch(architecture, name)
        return number if number >= 0 else None

    def native(self) -> int:
        """The AUDIT_ARCH_* of this machine."""
        native: int = self._library.seccomp_arch_native()
        return native

    def new_filter(self, default: int) -> Filter:
        """A filter of the native architecture whose default action is `default`."""
        context = self._library.seccomp_init(default)
        if not context:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return Filter(self._library, context)


class Filter:
    """A filter being made; a context manager that gives its memory back."""

    def __init__(self, library: ctypes.CDLL, context: int) -> None:
        self._library = library
        self._context = context

    def __enter__(self) -> Filter:
        # no_new_privs is the plan's business; the tree of comparisons is faster than the list.
        _check(self._library.seccomp_attr_set(self._context, _ATTR_NNP, 0))
        self._library.seccomp_attr_set(self._context, _ATTR_OPTIMIZE, 2)
        return self

    def __exit__(self, *_: object) -> None:
        self._library.seccomp_release(self._context)

    def other_architectures(self, action: int) -> None:
        """What becomes of calls made in the manner of an architecture that is not in the filter."""
        _check(self._library.seccomp_attr_set(self._context, _ATTR_BADARCH, action))

    def add_architecture(self, architecture: int) -> None:
        """Cover one more architecture; all rules apply to it too."""
        result: int = self._library.seccomp_arch_add(self._context, architecture)
        if result != -errno.EEXIST:
            _check(result)

    def add_rule(self, action: int, number: int, comparisons: tuple[Comparison, ...]) -> None:
        """Do `action` for a system call if all comparisons hold.

        EEXIST where the rule is there already; EACCES where it is the default action.
        """
        array = (_ArgCmp * len(comparisons))(*(_ArgCmp(*each) for each in comparisons))
        _check(
            self._library.seccomp_rule_add_array(
                self._context, action, number, len(comparisons), array
            )
        )

    def program(self) -> bytes:
        """The filter as classic BPF."""
        fd = os.memfd_create("filter")
        try:
            _check(self._library.seccomp_export_bpf(self._context, fd))
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def open_library() -> Library:
    """Load libseccomp.so.2; `OSError` where it is not installed."""
    return Library(ctypes.CDLL("libseccomp.so.2"))
