/* A clock of the day that is CLOCK_AHEAD seconds ahead, for whatever preloads this library.
 *
 * Waits until a time of that clock end when they should. The monotonic clock, and so every wait
 * for a number of seconds, is the kernel's. libfaketime (0.9.10) shifts both, or breaks
 * clock_nanosleep, and either ends Python's waits wrongly.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

/* Seconds since the boot are fewer, seconds since 1970 more. */
#define OF_THE_DAY 1000000000

static long ahead(void)
{
    static long seconds = -1;
    if (seconds == -1) {
        const char *given = getenv("CLOCK_AHEAD");
        seconds = given ? atol(given) : 0;
    }
    return seconds;
}

static struct timespec kernels(const struct timespec *until)
{
    struct timespec shifted = *until;
    if (until->tv_sec > OF_THE_DAY)
        shifted.tv_sec -= ahead();
    return shifted;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec read;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &read);
    now->tv_sec = read.tv_sec;
    now->tv_usec = read.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec read;
    clock_gettime(CLOCK_REALTIME, &read);
    if (now)
        *now = read.tv_sec;
    return read.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    struct timespec shifted = kernels(until);
    clockid_t clock = until->tv_sec > OF_THE_DAY ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    return pthread_cond_clockwait(condition, mutex, clock, &shifted);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    struct timespec shifted = kernels(until);
    return sem_clockwait(semaphore, CLOCK_REALTIME, &shifted);
}

/* Abseil, and so gRPC, calls futex itself. */
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    if (!real)
        real = dlsym(RTLD_NEXT, "syscall");
    long words[6];
    va_list given;
    va_start(given, number);
    for (int index = 0; index < 6; index++)
        words[index] = va_arg(given, long);
    va_end(given);
    struct timespec shifted;
    if (number == SYS_futex && words[1] & FUTEX_CLOCK_REALTIME && words[3]) {
        shifted = kernels((const struct timespec *)words[3]);
        words[3] = (long)&shifted;
    }
    return real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
