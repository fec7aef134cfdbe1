/* server: serves at the sockets that it is started with, in the way that its first argument says. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>

enum { FIRST = 3, MOST = 300 };

static void say(const char *text) {
    puts(text);
    fflush(stdout);
}

/* One after another, waiting for each: what it sends comes back. */
static int echo(void) {
    static char block[65536];
    for (;;) {
        int one = accept(FIRST, NULL, NULL);
        if (one < 0)
            return printf("accept: %s\n", strerror(errno)), 1;
        for (ssize_t n; (n = read(one, block, sizeof block)) > 0;)
            if (write(one, block, (size_t)n) != n)
                break;
        shutdown(one, SHUT_WR);
        close(one);
    }
}

/* All at once, waiting for none: what comes in at a socket is answered with that and the socket's place. */
static int turns(int sockets) {
    static struct pollfd fds[MOST];
    static char block[4096];
    int count = 0;
    for (; count < sockets; count++) {
        fcntl(FIRST + count, F_SETFL, O_NONBLOCK);
        fds[count] = (struct pollfd){FIRST + count, POLLRDNORM, 0};
    }
    for (;;) {
        int ready = poll(fds, (nfds_t)count, 60000);
        if (ready <= 0)
            return puts("nobody came"), 1;
        for (int n = count - 1; n >= 0; n--) {
            if (!fds[n].revents)
                continue;
            if (n < sockets) {
                int one = accept4(fds[n].fd, NULL, NULL, SOCK_NONBLOCK);
                if (one < 0)
                    printf("accept: %s\n", strerror(errno)), fflush(stdout);
                else if (count == MOST)
                    close(one);
                else
                    fds[count++] = (struct pollfd){one, POLLRDNORM, 0};
                continue;
            }
            ssize_t size = recv(fds[n].fd, block, sizeof block, 0);
            if (size <= 0) {
                close(fds[n].fd);
                fds[n] = fds[--count];
            } else
                send(fds[n].fd, block, (size_t)size, 0);
        }
    }
}

static const char *kind(int fd) {
    struct stat info;
    if (fstat(fd, &info))
        return strerror(errno);
    return S_ISSOCK(info.st_mode) ? "socket" : S_ISDIR(info.st_mode) ? "directory" : "other";
}

/* What the descriptors are, and what cannot be done with them. */
static int facts(void) {
    static char byte[1];
    printf("LISTEN_FDS=%s LISTEN_FDNAMES=%s\n", getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"));
    printf("3 is a %s\n", kind(3));
    DIR *directory = opendir("/data");
    printf("/data is %s\n", directory ? "there" : strerror(errno));
    printf("1 at once: %d\n", poll((struct pollfd[]){{1, POLLWRNORM, 0}, {FIRST, POLLRDNORM, 0}}, 2, -1));
    printf("in time: %d\n", poll((struct pollfd[]){{FIRST, POLLRDNORM, 0}}, 1, 20));
    struct pollfd unknown = {2000, POLLRDNORM, 0};
    printf("unknown: %d %s\n", poll(&unknown, 1, -1), unknown.revents & POLLNVAL ? "invalid" : "valid");
    printf("seek: %s\n", lseek(FIRST, 0, SEEK_SET) < 0 ? strerror(errno) : "done");
    printf("read: %s\n", read(FIRST, byte, 1) < 0 ? strerror(errno) : "done");
    printf("accept at 1: %s\n", accept(1, NULL, NULL) < 0 ? strerror(errno) : "done");
    fcntl(FIRST, F_SETFL, O_NONBLOCK);
    printf("flags: %s\n", fcntl(FIRST, F_GETFL) & O_NONBLOCK ? "no waiting" : "waiting");
    printf("accept: %s\n", accept(FIRST, NULL, NULL) < 0 ? strerror(errno) : "done");
    close(FIRST);
    printf("closed: %s\n", accept(FIRST, NULL, NULL) < 0 ? strerror(errno) : "done");
    return 0;
}

/* Addresses that are not in its memory, and lengths that reach out of it. */
static int wild(void) {
    uint8_t *nowhere = (uint8_t *)0xfffffff0u;
    __wasi_size_t size;
    __wasi_roflags_t told;
    __wasi_fd_t one;
    static uint8_t byte[1];
    __wasi_iovec_t far = {nowhere, 64}, long_one = {byte, 0xffffffffu}, good = {byte, 1};
    __wasi_ciovec_t out = {nowhere, 64};
    __wasi_subscription_t clock = {0}, listening = {0};
    clock.u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
    listening.u.tag = __WASI_EVENTTYPE_FD_READ;
    listening.u.u.fd_read.file_descriptor = FIRST;
    __wasi_errno_t early = __wasi_sock_accept(FIRST, 0, (__wasi_fd_t *)nowhere);
    say("ready");
    if (__wasi_sock_accept(FIRST, 0, &one))
        return 1;
    printf("%d", early);
    printf(" %d", __wasi_fd_read(one, &far, 1, &size));
    printf(" %d", __wasi_fd_read(one, &long_one, 1, &size));
    printf(" %d", __wasi_fd_read(one, (__wasi_iovec_t *)nowhere, 1, &size));
    printf(" %d", __wasi_fd_read(one, &good, 0x20000000u, &size));
    printf(" %d", __wasi_fd_read(one, &good, 1, (__wasi_size_t *)nowhere));
    printf(" %d", __wasi_sock_recv(one, &good, 1, 0, &size, (__wasi_roflags_t *)nowhere));
    printf(" %d", __wasi_fd_write(one, &out, 1, &size));
    printf(" %d", __wasi_fd_fdstat_get(one, (__wasi_fdstat_t *)nowhere));
    printf(" %d", __wasi_fd_filestat_get(one, (__wasi_filestat_t *)nowhere));
    printf(" %d", __wasi_poll_oneoff((__wasi_subscription_t *)nowhere, (__wasi_event_t *)byte, 1, &size));
    printf(" %d", __wasi_poll_oneoff(&listening, (__wasi_event_t *)nowhere, 1, &size));
    printf(" %d\n", __wasi_poll_oneoff(&listening, (__wasi_event_t *)nowhere, 0xffffffffu, &size));
    __wasi_errno_t good_one = __wasi_sock_recv(one, &good, 1, __WASI_RIFLAGS_RECV_PEEK, &size, &told);
    printf("then %d %u of %c\n", good_one, (unsigned)size, byte[0]);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "", *told = getenv("LISTEN_FDS");
    if (!strcmp(what, "echo"))
        return echo();
    if (!strcmp(what, "turns"))
        return turns(told ? atoi(told) : 0);
    if (!strcmp(what, "facts"))
        return facts();
    if (!strcmp(what, "wild"))
        return wild();
    if (!strcmp(what, "trap")) {
        accept(FIRST, NULL, NULL);
        __builtin_trap();
    }
    if (!strcmp(what, "spin"))
        for (volatile int n = accept(FIRST, NULL, NULL);; n++)
            ;
    fprintf(stderr, "server: what is \"%s\"?\n", what);
    return 64;
}
