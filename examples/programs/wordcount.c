/* wordcount: lines, words, bytes and the most frequent words of some texts.
 *
 *     wordcount [-n TOP] [-m LETTERS] [FILE or DIRECTORY ...]
 *
 * -n TOP      how many of the most frequent words to list (10)
 * -m LETTERS  list only words of at least so many letters (1)
 *
 * Without files it reads its standard input. Of a directory it reads every file, in alphabetical order.
 * A word is a run of letters, digits and apostrophes; bytes of UTF-8 sequences count as letters.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LONGEST_WORD = 64, BUCKETS = 4096, BAR = 24 };

struct word {
    struct word *next;
    unsigned long count;
    size_t letters;
    char text[];
};

struct tally {
    unsigned long lines, words, bytes;
};

static struct word *buckets[BUCKETS];
static unsigned long different;
static int failures;

static void *need(void *memory) {
    if (memory == NULL) {
        fputs("wordcount: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static size_t count_letters(const char *text) {
    size_t letters = 0;
    for (; *text; text++)
        letters += ((unsigned char)*text & 0xC0) != 0x80; /* continuation bytes belong to the letter before */
    return letters;
}

static void add_word(const char *text, size_t length) {
    unsigned hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    struct word **place = &buckets[hash % BUCKETS];
    for (struct word *word = *place; word; word = word->next)
        if (strcmp(word->text, text) == 0) {
            word->count++;
            return;
        }
    struct word *fresh = need(malloc(sizeof *fresh + length + 1));
    memcpy(fresh->text, text, length + 1);
    fresh->letters = count_letters(text);
    fresh->count = 1;
    fresh->next = *place;
    *place = fresh;
    different++;
}

static int in_word(int c) { return isalnum(c) || c >= 0x80; }

static struct tally read_stream(FILE *stream) {
    struct tally tally = {0, 0, 0};
    char text[LONGEST_WORD + 1];
    size_t length = 0;
    int c, pending_apostrophe = 0, inside = 0;
    while ((c = getc(stream)) != EOF) {
        tally.bytes++;
        tally.lines += c == '\n';
        if (in_word(c)) {
            tally.words += !inside;
            if (pending_apostrophe && length < LONGEST_WORD)
                text[length++] = '\'';
            if (length < LONGEST_WORD)
                text[length++] = (char)tolower(c);
            inside = 1;
            pending_apostrophe = 0;
        } else if (c == '\'' && inside && !pending_apostrophe) {
            pending_apostrophe = 1; /* part of the word only if a letter follows */
        } else if (inside) {
            text[length] = '\0';
            add_word(text, length);
            length = 0;
            inside = pending_apostrophe = 0;
        }
    }
    if (inside) {
        text[length] = '\0';
        add_word(text, length);
    }
    return tally;
}

static void report(const char *name, struct tally tally) {
    printf("%9lu %9lu %9lu  %s\n", tally.lines, tally.words, tally.bytes, name);
}

static void add(struct tally *total, struct tally part) {
    total->lines += part.lines;
    total->words += part.words;
    total->bytes += part.bytes;
}

static int by_name(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void read_path(const char *path, struct tally *total, int *files);

static void read_directory(const char *path, struct tally *total, int *files) {
    DIR *directory = opendir(path);
    if (directory == NULL) {
        fprintf(stderr, "wordcount: %s: %s\n", path, strerror(errno));
        failures++;
        return;
    }
    char **names = NULL;
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        size_t length = strlen(path) + strlen(entry->d_name) + 2;
        names = need(realloc(names, (count + 1) * sizeof *names));
        names[count] = need(malloc(length));
        snprintf(names[count], length, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", entry->d_name);
        count++;
    }
    closedir(directory);
    if (count)
        qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        read_path(names[i], total, files);
        free(names[i]);
    }
    free(names);
}

static void read_path(const char *path, struct tally *total, int *files) {
    struct stat info;
    FILE *stream = NULL;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        read_directory(path, total, files);
        return;
    }
    stream = fopen(path, "rb");
    if (stream == NULL) {
        fprintf(stderr, "wordcount: %s: %s\n", path, strerror(errno));
        failures++;
        return;
    }
    struct tally tally = read_stream(stream);
    fclose(stream);
    report(path, tally);
    add(total, tally);
    (*files)++;
}

static int by_count(const void *left, const void *right) {
    const struct word *a = *(struct word *const *)left, *b = *(struct word *const *)right;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->text, b->text);
}

static void report_frequent(long top, size_t letters) {
    struct word **all = need(malloc((different + 1) * sizeof *all));
    size_t count = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct word *word = buckets[i]; word; word = word->next)
            if (word->letters >= letters)
                all[count++] = word;
    qsort(all, count, sizeof *all, by_count);
    printf("\n%lu different words", different);
    if (count == 0 || top <= 0) {
        putchar('\n');
        return;
    }
    if (letters > 1)
        printf("; the most frequent of at least %zu letters:\n\n", letters);
    else
        printf("; the most frequent:\n\n");
    for (size_t i = 0; i < count && (long)i < top; i++) {
        printf("%9lu  %-16s ", all[i]->count, all[i]->text);
        for (unsigned long n = 0; n < (all[i]->count * BAR + all[0]->count - 1) / all[0]->count; n++)
            putchar('#');
        putchar('\n');
    }
    free(all);
}

int main(int argc, char **argv) {
    struct tally total = {0, 0, 0};
    long top = 10;
    size_t letters = 1;
    int files = 0, first = 1;
    for (; first < argc && argv[first][0] == '-' && argv[first][1]; first += 2) {
        if (first + 1 >= argc || (strcmp(argv[first], "-n") && strcmp(argv[first], "-m"))) {
            fputs("usage: wordcount [-n TOP] [-m LETTERS] [FILE or DIRECTORY ...]\n", stderr);
            return 2;
        }
        if (argv[first][1] == 'n')
            top = strtol(argv[first + 1], NULL, 10);
        else
            letters = strtoul(argv[first + 1], NULL, 10);
    }
    printf("    lines     words     bytes\n");
    if (first >= argc) {
        total = read_stream(stdin);
        report("(standard input)", total);
    }
    for (int i = first; i < argc; i++)
        read_path(argv[i], &total, &files);
    if (files > 1)
        report("total", total);
    report_frequent(top, letters);
    return failures ? 1 : 0;
}
