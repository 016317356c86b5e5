/*
 * Writer of the stats segment (layout: tcw/stats.h). Lives in the control process, loop thread; one per daemon; freed by it. The file stays
 * behind when the daemon ends on purpose or not: tools show the last known state and say that the writer is gone.
 */
#ifndef TCD_CONTROL_STATS_H
#define TCD_CONTROL_STATS_H

#include <tcw/stats.h>

struct tcd_stats;

struct tcd_stats_capacity {
    uint32_t devices, clients, groups, members, communicators;
};

/* Creates `<runtime_dir>/stats` (mode 0644 masked by umask) beside its final name, formats it, renames it into place. 0 or a negative
 * tcw_errno. */
int tcd_stats_create(const char *runtime_dir, const struct tcd_stats_capacity *capacity, struct tcd_stats **stats);
void tcd_stats_destroy(struct tcd_stats *stats); /* unmaps; the file stays */

/* Publishes a row under its sequence lock. `row` is the struct of the table. An index beyond the capacity is ignored (counted in the
 * header). */
void tcd_stats_put(struct tcd_stats *stats, tcw_stats_table table, uint32_t index, const void *row);
void tcd_stats_clear(struct tcd_stats *stats, tcw_stats_table table, uint32_t index);
/* Rows that the table has. Record rows: member index * 2 * TCW_STATS_RECORDS_PER_MEMBER + (lane - 1) * that + step % that. */
uint32_t tcd_stats_rows(const struct tcd_stats *stats, tcw_stats_table table);

#endif
