#include "environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ordinals mean the same to everybody; streams of many attachments do not wait for each other in too few queues. */
static const char *const defaults[] = {"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_DEVICE_MAX_CONNECTIONS=32"};
enum { DEFAULTS = sizeof(defaults) / sizeof(defaults[0]) };
static const char no_multicast[] = "NCCL_NVLS_ENABLE=0";

static bool same_name(const char *one, const char *other)
{
    size_t length = strcspn(one, "=");

    return !strncmp(one, other, length) && (other[length] == '=' || !other[length]);
}

static bool has(char *const *environment, const char *entry)
{
    for (; *environment; environment++)
        if (same_name(entry, *environment))
            return true;
    return false;
}

static bool append(char **environment, size_t *count, const char *entry)
{
    environment[*count] = strdup(entry);
    return environment[*count] && ++*count;
}

bool tcd_environment_forbids_multicast(char *const *environment)
{
    for (; *environment; environment++)
        if (!strcmp(*environment, no_multicast))
            return true;
    return false;
}

char **tcd_environment_make(char *const *inherited, bool multicast)
{
    size_t size = 0, count = 0, i;
    char **environment;

    while (inherited[size])
        size++;
    environment = calloc(size + DEFAULTS + 2, sizeof(*environment));
    if (!environment)
        return NULL;
    for (i = 0; i < size; i++)
        if ((multicast || !same_name(no_multicast, inherited[i])) && !append(environment, &count, inherited[i]))
            goto failed;
    for (i = 0; i < DEFAULTS; i++)
        if (!has(environment, defaults[i]) && !append(environment, &count, defaults[i]))
            goto failed;
    if (!multicast && !append(environment, &count, no_multicast))
        goto failed;
    return environment;

failed:
    tcd_environment_free(environment);
    return NULL;
}

void tcd_environment_free(char **environment)
{
    size_t i;

    for (i = 0; environment && environment[i]; i++)
        free(environment[i]);
    free(environment);
}

void tcd_environment_text(char *const *environment, char *text, size_t bytes)
{
    size_t used = 0;

    *text = 0;
    for (; *environment; environment++) {
        size_t length = strlen(*environment), gap = used ? 1 : 0;

        if (strncmp(*environment, "NCCL_", 5) && strncmp(*environment, "CUDA_", 5))
            continue;
        if (used + gap + length + sizeof(" ...") > bytes) {
            snprintf(text + used, bytes - used, "%s...", gap ? " " : "");
            return;
        }
        if (gap)
            text[used] = ' ';
        memcpy(text + used + gap, *environment, length + 1);
        used += gap + length;
    }
}
