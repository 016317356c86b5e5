#include "doctor.h"

#include "text.h"

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { FILES_WANTED = 4096 };

static void open_files(struct tcc_findings *findings)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    if (limit.rlim_cur < FILES_WANTED)
        tcc_findings_add(
            findings, TCC_FINDING_WARNING, "open files",
            "LimitNOFILE=65536 in the unit, or ulimit -n 65536: each member of a group holds about ten descriptors in the daemon",
            "%llu per process", (unsigned long long)limit.rlim_cur);
    else
        tcc_findings_add(findings, TCC_FINDING_GOOD, "open files", NULL, "%llu per process", (unsigned long long)limit.rlim_cur);
}

static void locked_memory(struct tcc_findings *findings)
{
    static const char remedy[] = "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited: network devices pin memory under this limit";
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit))
        return;
    if (limit.rlim_cur == RLIM_INFINITY)
        tcc_findings_add(findings, TCC_FINDING_GOOD, "locked memory", NULL, "unlimited");
    else
        tcc_findings_add(findings, TCC_FINDING_NOTE, "locked memory", remedy, "%s per process", tcc_bytes(limit.rlim_cur).s);
}

void tcc_doctor_limits(struct tcc_findings *findings)
{
    struct utsname machine;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (!uname(&machine))
        tcc_findings_add(findings, TCC_FINDING_GOOD, "machine", NULL, "%s %s, %s, %ld processors", machine.sysname, machine.release,
                         machine.machine, processors);
    open_files(findings);
    locked_memory(findings);
}
