/* Which kernel a test runs on: for what only newer ones tell. */
#ifndef TESTS_LINUX_VERSION_H
#define TESTS_LINUX_VERSION_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/utsname.h>

static inline bool linux_at_least(unsigned major, unsigned minor)
{
    struct utsname name;
    unsigned found[2];

    if (uname(&name) || sscanf(name.release, "%u.%u", &found[0], &found[1]) != 2)
        return false;
    return found[0] > major || (found[0] == major && found[1] >= minor);
}

#endif
