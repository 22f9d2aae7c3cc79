#include "guard.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Sanitizers look at each access before it happens; here the point is to let it happen. */
#if defined(__GNUC__) || defined(__clang__)
#define UNCHECKED __attribute__((no_sanitize("address", "undefined")))
#else
#define UNCHECKED
#endif

static sigjmp_buf fault_return;
static volatile sig_atomic_t guarded;
static void *volatile fault_address;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!guarded) {
        (void)signal(number, SIG_DFL);
        (void)raise(number);
        return;
    }
    fault_address = info->si_addr;
    siglongjmp(fault_return, 1);
}

void catch_faults(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
}

UNCHECKED int64_t touch_pages(uintptr_t address, size_t length, int write, uint8_t value)
{
    static volatile int64_t done;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    done = 0;
    if (sigsetjmp(fault_return, 1) != 0) {
        guarded = 0;
        return -1;
    }
    guarded = 1;
    for (size_t at = 0; at < length; at += page - (address + at) % page) {
        volatile uint8_t *byte = (volatile uint8_t *)(address + at);
        if (write)
            *byte = value;
        else
            (void)*byte;
        done = done + 1;
    }
    guarded = 0;
    return done;
}

UNCHECKED int copy_guarded(uintptr_t to, uintptr_t from, size_t size)
{
    volatile uint8_t *target = (volatile uint8_t *)to;
    const volatile uint8_t *origin = (const volatile uint8_t *)from;
    if (sigsetjmp(fault_return, 1) != 0) {
        guarded = 0;
        return -1;
    }
    guarded = 1;
    for (size_t i = 0; i < size; i++)
        target[i] = origin[i];
    guarded = 0;
    return 0;
}

uintptr_t last_fault(void) { return (uintptr_t)fault_address; }
