/* Loaded into Orthanc with LD_PRELOAD for two things that its configuration cannot say.
 *
 * It listens only where HOSPITAL_BIND ("host:port,host:port", IPv4) says, instead of on every
 * address. And a deliberate stop ends: Orthanc waits for ever for open associations, so after
 * GRACE_MS they are hung up. It refuses to touch outgoing connections.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GRACE_MS 1500
#define AGAIN_MS 200
#define MAX_SOCKETS 4096

typedef void (*signal_handler)(int);
typedef signal_handler (*signal_function)(int, signal_handler);
typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);

static int allowed_host(unsigned port, struct in_addr *host)
{
    const char *next = getenv("HOSPITAL_BIND");
    char text[64];
    unsigned found;

    while (next != NULL && *next != '\0') {
        if (sscanf(next, "%63[^:]:%u", text, &found) == 2 && found == port)
            return inet_pton(AF_INET, text, host) == 1;
        next = strchr(next, ',');
        if (next != NULL)
            next++;
    }
    return 0;
}

int bind(int socket, const struct sockaddr *address, socklen_t length)
{
    bind_function real = (bind_function)dlsym(RTLD_NEXT, "bind");
    struct sockaddr_in told;

    if (address->sa_family == AF_INET && length >= sizeof told) {
        memcpy(&told, address, sizeof told);
        if (told.sin_port == 0)
            return real(socket, address, length);
        if (allowed_host(ntohs(told.sin_port), &told.sin_addr))
            return real(socket, (const struct sockaddr *)&told, sizeof told);
        errno = EACCES;
        return -1;
    }
    if (address->sa_family == AF_INET6) {
        errno = EACCES;
        return -1;
    }
    return real(socket, address, length);
}

static void hang_up(void)
{
    struct sockaddr_in own, peer;
    struct in_addr unused;
    socklen_t length;
    int one;

    for (one = 3; one < MAX_SOCKETS; one++) {
        length = sizeof own;
        if (getsockname(one, (struct sockaddr *)&own, &length) != 0 || own.sin_family != AF_INET)
            continue;
        length = sizeof peer;
        if (getpeername(one, (struct sockaddr *)&peer, &length) != 0)
            continue; /* it listens */
        if (allowed_host(ntohs(own.sin_port), &unused))
            shutdown(one, SHUT_RDWR);
    }
}

static void *hang_up_until_ended(void *unused)
{
    usleep(GRACE_MS * 1000);
    for (;;) { /* ends with the process */
        hang_up();
        usleep(AGAIN_MS * 1000);
    }
    return unused;
}

/* Orthanc waits with its own handler of SIGTERM and takes it away when it begins to stop. */
signal_handler signal(int number, signal_handler handler)
{
    static int waiting = 0;
    signal_function real = (signal_function)dlsym(RTLD_NEXT, "signal");
    pthread_t thread;

    if (number == SIGTERM && handler != SIG_DFL)
        waiting = 1;
    else if (number == SIGTERM && waiting) {
        waiting = 0;
        if (pthread_create(&thread, NULL, hang_up_until_ended, NULL) == 0)
            pthread_detach(thread);
    }
    return real(number, handler);
}
