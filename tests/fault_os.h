/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * os.h for real, but for the calls that are told to fail; and the count of
 * what the library has of the system and has not given back; and a say in
 * where regions go.
 */
#ifndef SEG_TESTS_FAULT_OS_H
#define SEG_TESTS_FAULT_OS_H

#include <stdint.h>

enum fault_kind {
	FAULT_MAP,
	FAULT_UNMAP,
	FAULT_ADVISE,
	FAULT_CALLOC,
	FAULT_REALLOC,
	FAULT_THREAD,
	FAULT_MEMBARRIER,		/* and the registration for it */
	FAULT_KINDS
};

/* From now on, the first-th call of the kind and the following ones fail. */
void fault_arm(enum fault_kind kind, uint64_t first, uint64_t calls);

/* Nothing fails any more.  How many calls have failed since fault_arm(). */
uint64_t fault_disarm(void);

/*
 * From now on each region comes to this place, which the caller has reserved
 * with enough behind it, and which is reserved again when the region goes.
 * Only one region at a time.  NULL: no more of that.
 */
void fault_place_regions(void *place);

uint64_t fault_mapped_bytes(void);
uint64_t fault_blocks(void);		/* of malloc's */
uint64_t fault_threads(void);		/* started, not joined */

#endif
