#include "pin.h"

#include <sched.h>
#include <stdio.h>

/* The first of the hardware threads that share a core with `cpu`; `cpu` itself where the machine does not say. */
static int first_of_core(int cpu)
{
    char path[96];
    int first = cpu;
    FILE *file;

    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    file = fopen(path, "re");
    if (!file)
        return cpu;
    if (fscanf(file, "%d", &first) != 1)
        first = cpu;
    fclose(file);
    return first;
}

/* How many of the allowed threads of this core come before `cpu`. */
static int turn_of(int cpu, const cpu_set_t *allowed)
{
    int turn = 0, first = first_of_core(cpu);

    for (int other = first; other < cpu; other++)
        turn += CPU_ISSET(other, allowed) && first_of_core(other) == first;
    return turn;
}

int pin_processor(uint32_t rank)
{
    cpu_set_t allowed;
    uint32_t count, wanted;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) == 0)
        return -1;
    count = (uint32_t)CPU_COUNT(&allowed);
    wanted = rank % count;
    for (int turn = 0; turn < (int)count; turn++)
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &allowed) && turn_of(cpu, &allowed) == turn && wanted-- == 0)
                return cpu;
    return -1;
}

void pin_rank(uint32_t rank)
{
    int cpu = pin_processor(rank);
    cpu_set_t one;

    if (cpu < 0)
        return;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
}
