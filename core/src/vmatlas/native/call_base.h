/* Linux: what is added to the number that a system call since 5.1 has in asm-generic/unistd.h. Most processors add nothing; mips counts from a
 * base for each of its ABIs (arch/mips/include/uapi/asm/unistd.h), alpha goes on from its own (arch/alpha/kernel/syscalls/syscall.tbl), and x32
 * has a bit (arch/x86/include/uapi/asm/unistd.h). */
#ifndef VMATLAS_CALL_BASE_H
#define VMATLAS_CALL_BASE_H

#if defined(__mips__) && _MIPS_SIM == _ABIO32
#define CALL_BASE 4000
#elif defined(__mips__) && _MIPS_SIM == _ABI64
#define CALL_BASE 5000
#elif defined(__mips__)
#define CALL_BASE 6000
#elif defined(__alpha__)
#define CALL_BASE 110
#elif defined(__x86_64__) && defined(__ILP32__)
#define CALL_BASE 0x40000000
#else
#define CALL_BASE 0
#endif

#endif
