/* Preloaded into a service whose wall clock shall be set: adds an offset to it, and to nothing else.
 *
 * The offset is a 64-bit number of nanoseconds in the file that WALL_CLOCK names. The file is mapped
 * once; whoever writes it sets the clock of every process that maps it, at once. Monotonic clocks,
 * and waits by them, go to the C library untouched. Waits until an instant of the wall clock are
 * shifted back by the offset, so that they take as long as their caller meant.
 *
 * Not covered: statically linked programs, raw system calls, time stamps that the kernel sets on
 * files, and timers of the kernel (timerfd, timer_settime) that ring at an instant of the wall clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NANO 1000000000LL

static const int64_t right;
static const volatile int64_t *offset_ns = &right;

__attribute__((constructor)) static void map_offset(void)
{
    const char *name = getenv("WALL_CLOCK");
    int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    if (lseek(file, 0, SEEK_END) >= (off_t)sizeof *offset_ns) {
        void *found = mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, file, 0);
        if (found != MAP_FAILED)
            offset_ns = found;
    }
    close(file);
}

/* The C library's own; of a function with several versions the one that programs are linked with. */
static void *next(void **kept, const char *name, const char *version)
{
    if (*kept == NULL && version != NULL)
        *kept = dlvsym(RTLD_NEXT, name, version);
    if (*kept == NULL)
        *kept = dlsym(RTLD_NEXT, name);
    return *kept;
}

#define NEXT(type, name, version) ((type)next(&kept, name, version))
#define KEPT static void *kept

static void shift(struct timespec *at, int64_t by_ns)
{
    int64_t ns = at->tv_nsec + by_ns % NANO;
    at->tv_sec += by_ns / NANO;
    if (ns < 0 || ns >= NANO) {
        at->tv_sec += ns < 0 ? -1 : 1;
        ns += ns < 0 ? NANO : -NANO;
    }
    at->tv_nsec = ns;
}

static int is_wall(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

/* An instant of the skewed clock as one of the machine's; an invalid one is left to the library. */
static const struct timespec *meant(const struct timespec *until, struct timespec *room)
{
    if (until == NULL || until->tv_nsec < 0 || until->tv_nsec >= NANO || *offset_ns == 0)
        return until;
    *room = *until;
    shift(room, -*offset_ns);
    if (room->tv_sec < 0)
        room->tv_sec = 0;
    return room;
}

typedef int (*getter)(clockid_t, struct timespec *);

int clock_gettime(clockid_t clock, struct timespec *now)
{
    KEPT;
    int result = NEXT(getter, "clock_gettime", NULL)(clock, now);
    if (result == 0 && is_wall(clock))
        shift(now, *offset_ns);
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec at;
    if (zone != NULL) {
        ((struct timezone *)zone)->tz_minuteswest = 0;
        ((struct timezone *)zone)->tz_dsttime = 0;
    }
    if (clock_gettime(CLOCK_REALTIME, &at) != 0)
        return -1;
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec at;
    if (clock_gettime(CLOCK_REALTIME_COARSE, &at) != 0)
        return (time_t)-1;
    if (now != NULL)
        *now = at.tv_sec;
    return at.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

typedef int (*sleeper)(clockid_t, int, const struct timespec *, struct timespec *);

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until,
                    struct timespec *left)
{
    KEPT;
    struct timespec room;
    if ((flags & TIMER_ABSTIME) && is_wall(clock))
        until = meant(until, &room);
    return NEXT(sleeper, "clock_nanosleep", NULL)(clock, flags, until, left);
}

typedef int (*waiter)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    KEPT;
    struct timespec room;
    int monotonic = (cond->__data.__wrefs & 2) != 0; /* as glibc keeps it, from 2.25 on */
    return NEXT(waiter, "pthread_cond_timedwait", "GLIBC_2.3.2")(
        cond, mutex, monotonic ? until : meant(until, &room));
}

typedef int (*clock_waiter)(pthread_cond_t *, pthread_mutex_t *, clockid_t,
                            const struct timespec *);

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until)
{
    KEPT;
    struct timespec room;
    return NEXT(clock_waiter, "pthread_cond_clockwait", NULL)(
        cond, mutex, clock, is_wall(clock) ? meant(until, &room) : until);
}

typedef int (*locker)(pthread_mutex_t *, const struct timespec *);

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
    KEPT;
    struct timespec room;
    return NEXT(locker, "pthread_mutex_timedlock", NULL)(mutex, meant(until, &room));
}

typedef int (*taker)(sem_t *, const struct timespec *);

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until)
{
    KEPT;
    struct timespec room;
    return NEXT(taker, "sem_timedwait", NULL)(sem, meant(until, &room));
}

typedef int (*clock_taker)(sem_t *, clockid_t, const struct timespec *);

int sem_clockwait(sem_t *restrict sem, clockid_t clock, const struct timespec *restrict until)
{
    KEPT;
    struct timespec room;
    return NEXT(clock_taker, "sem_clockwait", NULL)(
        sem, clock, is_wall(clock) ? meant(until, &room) : until);
}
