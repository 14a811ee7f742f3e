/* Orthanc listens on every address of the machine; this makes it listen only where it was told.
 *
 * Loaded with LD_PRELOAD. HOSPITAL_BIND is "host:port,host:port" (IPv4); a listening socket on any
 * other port is refused. It refuses to touch outgoing connections (port 0).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

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
