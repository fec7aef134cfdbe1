/* probe: does what its first argument says, so that tests can see what an executor makes of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void nap(long ms) {
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static int fail(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    return 1;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "hello", *arg = argc > 2 ? argv[2] : "";
    if (!strcmp(what, "hello")) {
        puts("hello");
        fputs("oops\n", stderr);
        return 0;
    }
    if (!strcmp(what, "exit"))
        exit(atoi(arg));
    if (!strcmp(what, "trap"))
        abort();
    if (!strcmp(what, "recurse")) {
        volatile int frame[256];
        frame[argc] = argc;
        int deeper = main(argc, argv);
        return frame[deeper & 255];
    }
    if (!strcmp(what, "spin")) {
        puts("spinning");
        fflush(stdout);
        for (volatile unsigned n = 0;; n++) {
        }
    }
    if (!strcmp(what, "sleep")) {
        puts("sleeping");
        fflush(stdout);
        nap(atol(arg));
        return 0;
    }
    if (!strcmp(what, "tick")) { /* tick COUNT MS; COUNT 0: for ever */
        long count = atol(arg), ms = argc > 3 ? atol(argv[3]) : 20;
        for (long n = 1; count == 0 || n <= count; n++) {
            printf("tick %ld\n", n);
            fflush(stdout);
            nap(ms);
        }
        return 0;
    }
    if (!strcmp(what, "hog")) { /* hog STEP: allocate until refused, then abort; hog STEP polite: exit 0 instead */
        size_t step = strtoul(arg, NULL, 10), total = 0;
        for (;;) {
            char *volatile piece = malloc(step);
            if (piece == NULL)
                break;
            memset(piece, 1, step);
            total += step;
        }
        printf("refused after %zu\n", total);
        fflush(stdout);
        if (argc > 3)
            return 0;
        abort();
    }
    if (!strcmp(what, "flood")) { /* flood BYTES */
        static char block[4096];
        memset(block, 'x', sizeof block);
        for (long left = atol(arg); left > 0; left -= (long)sizeof block)
            fwrite(block, 1, left < (long)sizeof block ? (size_t)left : sizeof block, stdout);
        return 0;
    }
    if (!strcmp(what, "cat")) { /* cat PATH; without path: standard input */
        FILE *file = *arg ? fopen(arg, "rb") : stdin;
        if (file == NULL)
            return fail("cat");
        for (int c; (c = getc(file)) != EOF;)
            putchar(c);
        return 0;
    }
    if (!strcmp(what, "write")) { /* write PATH TEXT */
        FILE *file = fopen(arg, "wb");
        if (file == NULL || fputs(argc > 3 ? argv[3] : "", file) == EOF || fclose(file) == EOF)
            return fail("write");
        puts("written");
        return 0;
    }
    if (!strcmp(what, "fill")) { /* fill PATH BYTES: report how many could be written */
        int file = open(arg, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        static char block[4096];
        long done = 0, wanted = argc > 3 ? atol(argv[3]) : 0;
        while (file >= 0 && done < wanted) {
            long n = (long)write(file, block, sizeof block);
            if (n <= 0)
                break;
            done += n;
        }
        printf("%ld\n", done);
        return done < wanted;
    }
    if (!strcmp(what, "list")) { /* list PATH */
        DIR *directory = opendir(arg);
        if (directory == NULL)
            return fail("list");
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
            if (entry->d_name[0] != '.')
                puts(entry->d_name);
        return 0;
    }
    if (!strcmp(what, "env")) {
        for (char **line = environ; *line; line++)
            puts(*line);
        return 0;
    }
    if (!strcmp(what, "args")) {
        for (int n = 0; n < argc; n++)
            puts(argv[n]);
        return 0;
    }
    fprintf(stderr, "probe: what is \"%s\"?\n", what);
    return 64;
}
