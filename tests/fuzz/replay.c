/*
 * Stands in for libFuzzer where it is not available: feeds every file of the named directories, each of its prefixes with every single
 * bit of a stride flipped, to the same entry point. Deterministic and short.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES = 1 << 16, CUTS = 64, FLIPS = 2048 };

static void replay_one(const uint8_t *data, size_t size)
{
    /* A fresh heap block of the exact size, so that a sanitizer sees one byte too many. */
    uint8_t *copy = calloc(1, size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static unsigned replay_file(const char *path)
{
    static uint8_t data[INPUT_BYTES];
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t size = fread(data, 1, sizeof(data), file);
    fclose(file);
    replay_one(data, size);
    size_t cut = size / CUTS + 1;
    for (size_t length = 0; length < size; length += cut)
        replay_one(data, length);
    size_t stride = size * 8 / FLIPS + 1;
    for (size_t bit = 0; bit < size * 8; bit += stride) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        replay_one(data, size);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return 1;
}

int main(int argc, char **argv)
{
    unsigned files = 0;
    replay_one((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        if (!directory) {
            fprintf(stderr, "%s: cannot be opened\n", argv[i]);
            return 1;
        }
        for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
            char path[4096];
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
            files += replay_file(path);
        }
        closedir(directory);
    }
    printf("%u seeds replayed\n", files);
    return argc > 1 && !files;
}
