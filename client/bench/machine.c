#include "bench.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* First "model name" of /proc/cpuinfo; other architectures have no such line and get their machine name. */
static void describe_cpu(char *text, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof(line), file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = 0;
        snprintf(text, size, "%s", value);
        break;
    }
    if (file)
        fclose(file);
}

void machine_describe(struct machine *machine)
{
    struct utsname name;
    cpu_set_t allowed;
    memset(machine, 0, sizeof(*machine));
    if (uname(&name) == 0) {
        snprintf(machine->kernel, sizeof(machine->kernel), "%.32s %.90s", name.sysname, name.release);
        snprintf(machine->cpu, sizeof(machine->cpu), "%.65s", name.machine);
    }
    describe_cpu(machine->cpu, sizeof(machine->cpu));
    machine->processors = sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? (uint32_t)CPU_COUNT(&allowed) : 0;
    snprintf(machine->library, sizeof(machine->library), "%s", trtcoll_version());
}

void machine_own_directory(char *directory, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", directory, size - 1);
    directory[length > 0 ? length : 0] = 0;
    char *slash = strrchr(directory, '/');
    if (slash)
        *slash = 0;
}
