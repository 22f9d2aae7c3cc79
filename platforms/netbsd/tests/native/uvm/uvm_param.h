/* As much of NetBSD's <uvm/uvm_param.h> as the source uses. */
enum { VM_PROC = 16, VM_PROC_MAP = 1 };
