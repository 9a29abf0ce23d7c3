/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory limit of the control group that this process is in: the lowest of
 * memory.max and memory.high (version 2) and memory.limit_in_bytes (version 1)
 * of the group and of all above it that are mounted here.  memory.high counts,
 * since a process above it is throttled.
 *
 * Where the groups are mounted is read once, which group it is each time.  What
 * can't be read or understood is no limit.  Files are read without waiting for
 * anybody but the kernel.  One thread at a time.
 */
#ifndef SEG_CGROUP_H
#define SEG_CGROUP_H

#include <stdint.h>

struct cgroup;

#define CGROUP_NO_LIMIT UINT64_MAX

/* root stands before each path: "" but in tests.  -ENOENT: no control groups
 * with a memory limit are mounted; -ENOMEM. */
int cgroup_open(const char *root, struct cgroup **ret_cgroup);
void cgroup_close(struct cgroup *cg);

/* The limit now, in bytes. */
uint64_t cgroup_limit(struct cgroup *cg);

#endif
