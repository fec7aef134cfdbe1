/* linestats: how long the lines of some texts are, and how often each letter occurs.
 *
 *     linestats [-n LONGEST] [FILE ...]
 *
 * -n LONGEST  how many of the longest lines to show (3)
 *
 * Without files it reads its standard input. Lengths are in characters of UTF-8.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LONGEST = 20, SHOWN = 64, BAR = 32, WIDTH = 10, RANGES = 13 };

struct line {
    unsigned long number, length;
    char text[SHOWN * 4 + 1];
};

static unsigned long letters[26], ranges[RANGES], lines, empty, characters, all_letters;
static struct line longest[MAX_LONGEST + 1];
static int wanted = 3;

static void bar(unsigned long value, unsigned long largest) {
    for (unsigned long n = 0; largest && n < (value * BAR + largest - 1) / largest; n++)
        putchar('#');
    putchar('\n');
}

static void keep(struct line *line) {
    lines++;
    line->number = lines;
    characters += line->length;
    empty += line->length == 0;
    unsigned long range = line->length / WIDTH;
    ranges[range < RANGES ? range : RANGES - 1]++;
    int place = wanted;
    while (place > 0 && longest[place - 1].length < line->length) {
        longest[place] = longest[place - 1];
        place--;
    }
    if (place < wanted && line->length > 0)
        longest[place] = *line;
}

static void read_stream(FILE *stream) {
    static struct line line;
    size_t stored = 0;
    int c, open = 0;
    memset(&line, 0, sizeof line);
    while ((c = getc(stream)) != EOF) {
        if (c == '\n') {
            line.text[stored] = '\0';
            keep(&line);
            line.length = stored = 0;
            open = 0;
            continue;
        }
        open = 1;
        line.length += (c & 0xC0) != 0x80;
        if (line.length <= SHOWN && stored < sizeof line.text - 1)
            line.text[stored++] = (char)c;
        if (c < 0x80 && isalpha(c)) {
            letters[tolower(c) - 'a']++;
            all_letters++;
        }
    }
    if (open) {
        line.text[stored] = '\0';
        keep(&line);
    }
}

static void report(void) {
    unsigned long most = 0;
    printf("%lu lines, %lu of them empty; %lu characters; %.1f on average\n\n", lines, empty, characters,
           lines > empty ? (double)characters / (double)(lines - empty) : 0.0);
    for (int i = 0; i < RANGES; i++)
        most = ranges[i] > most ? ranges[i] : most;
    printf("length   lines\n");
    for (int i = 0; i < RANGES; i++) {
        if (ranges[i] == 0)
            continue;
        if (i == RANGES - 1)
            printf("%3d+    %6lu  ", i * WIDTH, ranges[i]);
        else
            printf("%3d-%-3d %6lu  ", i * WIDTH, i * WIDTH + WIDTH - 1, ranges[i]);
        bar(ranges[i], most);
    }
    most = 0;
    for (int i = 0; i < 26; i++)
        most = letters[i] > most ? letters[i] : most;
    printf("\nletter  share\n");
    for (int i = 0; i < 26 && all_letters; i++) {
        printf("     %c %5.1f%%  ", 'a' + i, 100.0 * (double)letters[i] / (double)all_letters);
        bar(letters[i], most);
    }
    if (wanted && longest[0].length)
        printf("\nlongest lines\n");
    for (int i = 0; i < wanted && longest[i].length; i++)
        printf("%4lu characters, line %lu: %s%s\n", longest[i].length, longest[i].number, longest[i].text,
               longest[i].length > SHOWN ? "..." : "");
}

int main(int argc, char **argv) {
    int first = 1, failures = 0;
    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        wanted = atoi(argv[2]);
        wanted = wanted < 0 ? 0 : wanted > MAX_LONGEST ? MAX_LONGEST : wanted;
        first = 3;
    }
    if (first >= argc)
        read_stream(stdin);
    for (int i = first; i < argc; i++) {
        FILE *stream = fopen(argv[i], "rb");
        if (stream == NULL) {
            fprintf(stderr, "linestats: %s: %s\n", argv[i], strerror(errno));
            failures++;
            continue;
        }
        read_stream(stream);
        fclose(stream);
    }
    report();
    return failures ? 1 : 0;
}
