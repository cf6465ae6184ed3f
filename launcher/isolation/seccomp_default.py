# SPDX-License-Identifier: GPL-3.0-or-later
"""The default seccomp profile as data: what a container may ask of the kernel, by subject.

Its effect is that of docker's default profile. All that is not listed is answered EPERM: what
reaches past the namespaces (keys, modules, clocks, swap, reboot, raw I/O), what has had more than
its share of kernel holes (io_uring, userfaultfd, bpf, AF_ALG), and what old interfaces left over.
"""

from __future__ import annotations

import errno

from launcher.typed import Any, Final

__all__ = ["VERSION", "conditional_capabilities", "profile"]

# Counts up with every change of effect: compiled filters are kept under it.
VERSION: Final = 1

_ALWAYS: Final = """
    read write readv writev pread64 pwrite64 preadv preadv2 pwritev pwritev2 lseek _llseek
    open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock ioctl
    sendfile sendfile64 copy_file_range splice tee vmsplice readahead
    fallocate fadvise64 fadvise64_64 truncate truncate64 ftruncate ftruncate64
    sync syncfs fsync fdatasync sync_file_range cachestat

    stat stat64 fstat fstat64 lstat lstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs
    fstatfs64 statmount listmount access faccessat faccessat2 readlink readlinkat
    chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 lchown lchown32 fchownat umask
    utime utimes futimesat utimensat utimensat_time64
    link linkat unlink unlinkat symlink symlinkat rename renameat renameat2
    mkdir mkdirat rmdir mknod mknodat getdents getdents64 getcwd chdir fchdir name_to_handle_at
    getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
    listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark

    select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait
    epoll_pwait2 eventfd eventfd2 signalfd signalfd4 pipe pipe2
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64

    socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername
    getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg
    recvmmsg_time64

    brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock
    munlockall mseal remap_file_pages membarrier memfd_create memfd_secret map_shadow_stack
    pkey_alloc pkey_free pkey_mprotect

    fork vfork execve execveat exit exit_group wait4 waitid waitpid pause
    getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address
    getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32
    getresuid getresuid32 getresgid getresgid32
    setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32
    setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32
    capget capset prctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    getrlimit ugetrlimit setrlimit prlimit64 getrusage times sysinfo uname getcpu
    getpriority setpriority ioprio_get ioprio_set
    sched_yield sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr
    sched_setattr sched_getaffinity sched_setaffinity sched_get_priority_max
    sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
    futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue
    set_robust_list get_robust_list rseq restart_syscall
    get_thread_area set_thread_area riscv_hwprobe uretprobe

    kill tkill tgkill pidfd_open pidfd_send_signal process_mrelease
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigreturn rt_sigqueueinfo
    rt_tgsigqueueinfo rt_sigtimedwait rt_sigtimedwait_time64 sigaltstack sigprocmask sigreturn

    time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64
    clock_nanosleep clock_nanosleep_time64 clock_adjtime clock_adjtime64 adjtimex nanosleep alarm
    getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
    timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 getrandom

    ipc msgget msgsnd msgrcv msgctl semget semop semtimedop semtimedop_time64 semctl
    shmget shmat shmdt shmctl
    mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive
    mq_timedreceive_time64
"""

# Before 4.8 a traced process could get past its filter (seccomp(2)).
_SINCE_4_8: Final = "ptrace process_vm_readv process_vm_writev"

# What holding a capability adds.
_WITH_CAPABILITY: Final = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick
        clone clone3 setns unshare sethostname setdomainname quotactl quotactl_fd fanotify_init
        bpf perf_event_open syslog lookup_dcookie
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": """
        kcmp pidfd_getfd process_madvise ptrace process_vm_readv process_vm_writev
    """,
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

# What only some machines have, by Go's names of them.
_ON_MACHINES: Final = (
    (("amd64", "x32"), "arch_prctl"),
    (("amd64", "x32", "x86"), "modify_ldt"),
    (
        ("arm", "arm64"),
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (("ppc64le",), "sync_file_range2 swapcontext"),
    (("riscv64",), "riscv_flush_icache"),
    (("s390", "s390x"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
)

_MACHINES: Final = (
    ("SCMP_ARCH_X86_64", ("SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    ("SCMP_ARCH_AARCH64", ("SCMP_ARCH_ARM",)),
    ("SCMP_ARCH_S390X", ("SCMP_ARCH_S390",)),
    ("SCMP_ARCH_PPC64LE", ()),
    ("SCMP_ARCH_RISCV64", ()),
    ("SCMP_ARCH_LOONGARCH64", ()),
)

# Address families whose sockets a container may not open: the kernel's crypto API and the
# hypervisor's sockets, neither of which a network namespace keeps apart.
_AF_ALG: Final = 38
_AF_VSOCK: Final = 40

# personality(2): Linux as ever, 32-bit uname, no randomisation with each; and asking.
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# Every CLONE_NEW* flag of clone(2) but CLONE_NEWTIME, which it cannot take.
_CLONE_NAMESPACES: Final = 0x7E020000


def conditional_capabilities() -> frozenset[str]:
    """The capabilities on which the profile's effect depends."""
    return frozenset(_WITH_CAPABILITY)


def profile() -> dict[str, Any]:
    """The profile in docker's format."""
    rules: list[dict[str, Any]] = [
        _allow(_ALWAYS),
        _allow(_SINCE_4_8, includes={"minKernel": "4.8"}),
        _allow("socket", args=[_compare(0, "LT", _AF_ALG)]),
        _allow("socket", args=[_compare(0, "EQ", _AF_ALG + 1)]),
        _allow("socket", args=[_compare(0, "GT", _AF_VSOCK)]),
    ]
    rules += [_allow("personality", args=[_compare(0, "EQ", each)]) for each in _PERSONALITIES]
    rules += [_allow(calls, includes={"arches": list(ports)}) for ports, calls in _ON_MACHINES]
    rules += [_allow(calls, includes={"caps": [cap]}) for cap, calls in _WITH_CAPABILITY.items()]
    # Threads and processes, but no new namespaces. The flags are s390's second argument.
    for index, where in ((0, "excludes"), (1, "includes")):
        conditions: dict[str, dict[str, list[str]]] = {"excludes": {"caps": ["CAP_SYS_ADMIN"]}}
        conditions.setdefault(where, {})["arches"] = ["s390", "s390x"]
        no_namespaces = _compare(index, "MASKED_EQ", _CLONE_NAMESPACES)
        rules.append(_allow("clone", args=[no_namespaces], **conditions))
    # clone3's flags lie in memory, where a filter cannot look: callers shall take clone instead.
    rules.append(
        {
            "names": ["clone3"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": errno.ENOSYS,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        }
    )
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "archMap": [
            {"architecture": native, "subArchitectures": list(others)}
            for native, others in _MACHINES
        ],
        "syscalls": rules,
    }


def _allow(calls: str, **conditions: Any) -> dict[str, Any]:
    return {"names": calls.split(), "action": "SCMP_ACT_ALLOW", **conditions}


def _compare(index: int, operator: str, value: int) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{operator}", "value": value}
