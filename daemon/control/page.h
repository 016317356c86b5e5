/*
 * One member page (tcw/member.h) as the control process holds it: mapped, with what was last seen in it, so that counters can be added up
 * as differences. Everything in it that its runner wrote is untrusted: read once, bounded, displayed.
 * Stands inside its member or attachment. Control process, loop thread. Freed by tcd_page_close.
 */
#ifndef TCD_CONTROL_PAGE_H
#define TCD_CONTROL_PAGE_H

#include <tcw/member.h>

#include <stdbool.h>

struct tcd_page_seen;

struct tcd_page {
    struct tcw_member_page *map; /* NULL: none */
    uint64_t bytes;
    struct tcd_page_seen *seen; /* made and used by the watch */
};

/* Makes, maps and formats a page; *fd is the caller's to pass on and close. 0 or a negative tcw_errno. */
int tcd_page_open(struct tcd_page *page, uint64_t group_id, uint64_t epoch, uint32_t rank, uint32_t nranks, uint64_t deadline_ns, int *fd);
void tcd_page_close(struct tcd_page *page);

/* 0 for a page that is not there. */
uint64_t tcd_page_started(const struct tcd_page *page);
uint64_t tcd_page_finished(const struct tcd_page *page);

#endif
