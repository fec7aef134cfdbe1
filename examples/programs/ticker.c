/* ticker: a service that says at regular intervals that it is alive, until it is stopped.
 *
 * Options come from the environment:
 *
 * TICK_NAME    what it calls itself (ticker)
 * TICK_MS      milliseconds between two lines (1000)
 * TICK_COUNT   end after so many lines; 0 means never (0)
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long option(const char *name, long otherwise, long least) {
    const char *text = getenv(name);
    char *end;
    if (text == NULL || *text == '\0')
        return otherwise;
    long value = strtol(text, &end, 10);
    if (*end != '\0' || value < least) {
        fprintf(stderr, "ticker: %s must be a whole number of at least %ld, not \"%s\"\n", name, least, text);
        exit(2);
    }
    return value;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(void) {
    const char *name = getenv("TICK_NAME");
    long interval = option("TICK_MS", 1000, 1), count = option("TICK_COUNT", 0, 0);
    struct timespec pause = {interval / 1000, interval % 1000 * 1000000};
    double begin = seconds();
    if (name == NULL || *name == '\0')
        name = "ticker";
    printf("%s: started, one line every %ld ms\n", name, interval);
    fflush(stdout);
    for (unsigned long tick = 1; count == 0 || tick <= (unsigned long)count; tick++) {
        nanosleep(&pause, NULL);
        printf("%s: tick %lu after %.1f s\n", name, tick, seconds() - begin);
        fflush(stdout);
    }
    printf("%s: done\n", name);
    return 0;
}
