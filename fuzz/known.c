/* Preloaded into a fuzz target by `tools/fuzz short`, so that each run tries the same
 * inputs: what comes from outside is known. libFuzzer prefers inputs by what is compared
 * while they are tried, and that is among others the time and the keys of hash tables. */
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void fill(unsigned char *to, size_t length) {
    /* Knuth's MMIX generator. */
    static unsigned long long state = 1;
    for (size_t at = 0; at < length; at++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        to[at] = state >> 56;
    }
}

ssize_t getrandom(void *to, size_t length, unsigned flags) {
    (void)flags;
    fill(to, length);
    return length;
}

int getentropy(void *to, size_t length) {
    fill(to, length);
    return 0;
}

/* A microsecond has passed each time that somebody asks. The time of day is left as it
 * is: libFuzzer reports its speed by it. */
int clock_gettime(clockid_t clock, struct timespec *time) {
    static unsigned long long now = 1000000000000ULL;
    if (clock != CLOCK_MONOTONIC)
        return syscall(SYS_clock_gettime, clock, time);
    now += 1000;
    time->tv_sec = now / 1000000000;
    time->tv_nsec = now % 1000000000;
    return 0;
}
