/* How a program of QNX Neutrino for x86 begins, and the two divisions that the compiler leaves to a library: what
 * crt1.o and libgcc are in an SDP. */
#include <qnx_libc.h>

void _init_libc(int argc, char **argv, char **environment, void *auxiliary, void (*at_exit)(void));
int main(int argc, char **argv);

extern char **environ;
char **environ;

/* At the start the stack holds argc, argv, NULL, the environment, NULL, the auxiliary vector; edx a function for the exit. */
__asm__(".text\n.globl _start\n_start:\n"
        "xorl %ebp, %ebp\nmovl %esp, %eax\nandl $-16, %esp\nsubl $8, %esp\npushl %edx\npushl %eax\ncall vmatlas_begin\n");

void vmatlas_begin(char **stack, void (*at_exit)(void)) __attribute__((noreturn));
void vmatlas_begin(char **stack, void (*at_exit)(void))
{
    int argc = (int)(intptr_t)stack[0];
    char **argv = stack + 1, **after;
    environ = argv + argc + 1;
    for (after = environ; *after != NULL; after++)
        continue;
    _init_libc(argc, argv, environ, after + 1, at_exit);
    exit(main(argc, argv));
}

static uint64_t divide(uint64_t number, uint64_t by, uint64_t *rest)
{
    uint64_t result = 0, left = 0;
    for (int bit = 63; bit >= 0; bit--) {
        left = left << 1 | (number >> bit & 1U);
        if (left >= by) {
            left -= by;
            result |= (uint64_t)1 << bit;
        }
    }
    *rest = left;
    return result;
}

uint64_t __udivdi3(uint64_t number, uint64_t by);
uint64_t __umoddi3(uint64_t number, uint64_t by);

uint64_t __udivdi3(uint64_t number, uint64_t by)
{
    uint64_t rest;
    return divide(number, by, &rest);
}

uint64_t __umoddi3(uint64_t number, uint64_t by)
{
    uint64_t rest;
    (void)divide(number, by, &rest);
    return rest;
}
