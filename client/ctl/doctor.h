/*
 * What `trtcollctl doctor` finds on this machine, one finding per line: what was looked at, what was found, and what to do about it.
 * Owner: the command, which frees it. Threads: the tool has one.
 */
#ifndef TCC_CTL_DOCTOR_H
#define TCC_CTL_DOCTOR_H

#include <stddef.h>

typedef enum tcc_finding_level { TCC_FINDING_GOOD, TCC_FINDING_NOTE, TCC_FINDING_WARNING, TCC_FINDING_BAD } tcc_finding_level;

struct tcc_finding {
    tcc_finding_level level;
    const char *topic;  /* static: "machine", "driver", ... */
    char found[256];    /* what is there */
    const char *remedy; /* static; NULL: nothing to do */
};

struct tcc_findings {
    struct tcc_finding *items;
    size_t count;
};

__attribute__((format(printf, 5, 6))) void tcc_findings_add(struct tcc_findings *findings, tcc_finding_level level, const char *topic,
                                                            const char *remedy, const char *format, ...);
void tcc_findings_free(struct tcc_findings *findings);

/* Limits of this process, as the daemon and the engines that are started the same way have them. */
void tcc_doctor_limits(struct tcc_findings *findings);
/*
 * GPUs, by using them: opens every GPU that this process sees, which takes half a GiB of each while the command runs, and moves bytes
 * between each pair.
 */
void tcc_doctor_gpus(struct tcc_findings *findings);

#endif
