/* SPDX-License-Identifier: Apache-2.0
 *
 * What xenstored and oxenstored ask of a hypervisor, where there is none: preloaded (ld.so(8)), it says yes to everything, and a
 * domain that is introduced has a ring in which nothing ever moves.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096

static int ends[2] = { -1, -1 };

void *xc_interface_open(void *logger, void *dombuild_logger, unsigned flags) { return ends; }
int xc_interface_close(void *handle) { return 0; }

/* The first fields of xc_dominfo_t are the domid, a label, and the bits dying, crashed, shutdown, ...: none of them. */
int xc_domain_getinfo(void *handle, uint32_t first, unsigned most, uint32_t *info)
{
    memset(info, 0, 4 * sizeof *info);
    *info = first;
    return 1;
}

void *xc_map_foreign_range(void *handle, uint32_t domid, int size, int prot, unsigned long mfn) { return calloc(1, PAGE); }

void *xenevtchn_open(void *logger, unsigned flags) { return ends[0] < 0 && pipe(ends) ? NULL : ends; }
void *xenevtchn_fdopen(void *logger, int fd, unsigned flags) { return xenevtchn_open(logger, flags); }
int xenevtchn_close(void *handle) { return 0; }
int xenevtchn_fd(void *handle) { return ends[0]; }
int xenevtchn_bind_virq(void *handle, unsigned virq) { return 1; }
int xenevtchn_bind_interdomain(void *handle, uint32_t domid, uint32_t port) { return 2; }
int xenevtchn_notify(void *handle, uint32_t port) { return 0; }
int xenevtchn_pending(void *handle) { return -1; }
int xenevtchn_unbind(void *handle, uint32_t port) { return 0; }
int xenevtchn_unmask(void *handle, uint32_t port) { return 0; }

void *xengnttab_open(void *logger, unsigned flags) { return ends; }
int xengnttab_close(void *handle) { return 0; }
int xengnttab_set_max_grants(void *handle, uint32_t count) { return 0; }
void *xengnttab_map_grant_ref(void *handle, uint32_t domid, uint32_t ref, int prot) { return calloc(1, PAGE); }
int xengnttab_unmap(void *handle, void *page, uint32_t count) { free(page); return 0; }
