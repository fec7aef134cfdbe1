/* hello: a web server. It answers every request with its first argument, or a greeting, at the port that it is given.
 *
 * A WebAssembly program cannot open a socket, but it can be started with some: as under systemd, LISTEN_FDS says how many there
 * are, and they begin at descriptor 3.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 3, MOST = 64, HEAD_BYTES = 4096, PATIENCE_MS = 10000 };

/* Somebody who is connected, and what was heard of the request. */
struct visitor {
    char head[HEAD_BYTES];
    size_t size;
};

static struct pollfd fds[1 + MOST];
static struct visitor visitors[1 + MOST];

static void answer(int fd, const char *text) {
    char page[HEAD_BYTES];
    int size = snprintf(page, sizeof page,
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                        "Connection: close\r\n\r\n%s\n",
                        strlen(text) + 1, text);
    fcntl(fd, F_SETFL, 0); /* it is short: wait until it is sent */
    for (int sent = 0; sent < size;) {
        ssize_t n = write(fd, page + sent, (size_t)(size - sent));
        if (n <= 0)
            return;
        sent += (int)n;
    }
    shutdown(fd, SHUT_WR);
}

/* Whether there is more to hear of this one. */
static int hear(int fd, struct visitor *who, const char *text) {
    ssize_t n = read(fd, who->head + who->size, sizeof who->head - 1 - who->size);
    if (n <= 0)
        return 0;
    who->size += (size_t)n;
    who->head[who->size] = 0;
    if (!strstr(who->head, "\r\n\r\n"))
        return who->size < sizeof who->head - 1;
    answer(fd, text);
    return 0;
}

int main(int argc, char **argv) {
    const char *text = argc > 1 ? argv[1] : "Hello from WebAssembly!";
    nfds_t count = 1;
    fds[0] = (struct pollfd){LISTENER, POLLRDNORM, 0};
    if (strlen(text) > HEAD_BYTES / 2 || fcntl(LISTENER, F_SETFL, O_NONBLOCK)) {
        fputs("hello: the text is too long, or there is no port: see examples/wasm-web.yaml\n", stderr);
        return 1;
    }
    for (;;) {
        fds[0].events = count <= MOST ? POLLRDNORM : 0;
        int ready = poll(fds, count, PATIENCE_MS);
        for (nfds_t n = count - 1; n > 0; n--) {
            int has_time = ready > 0; /* nobody has said anything for long: all may go */
            if (has_time && (!fds[n].revents || hear(fds[n].fd, &visitors[n], text)))
                continue;
            close(fds[n].fd);
            fds[n] = fds[--count];
            visitors[n] = visitors[count];
        }
        int fd = fds[0].revents && count <= MOST ? accept4(LISTENER, NULL, NULL, SOCK_NONBLOCK) : -1;
        if (fd >= 0) {
            visitors[count].size = 0;
            fds[count++] = (struct pollfd){fd, POLLRDNORM, 0};
        }
    }
}
