#include <tcw/machine.h>

#include <sched.h>
#include <unistd.h>

unsigned tcw_processors(void)
{
    cpu_set_t set;
    long online;

    if (!sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) > 1)
        return (unsigned)CPU_COUNT(&set);
    online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}
