/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A section is a stretch of one thread's code that others can wait for, at
 * their cost: its owner enters and leaves by plain stores, and who waits has
 * the kernel put a barrier between what the owner does (membarrier(2)).
 *
 * The owner enters, and then loads what others may have stored for it to see.
 * Another thread stores that, calls sections_barrier(), and then looks at the
 * section.  Guarantees:
 * (S1) section_is_left() is true: the caller sees all that the owner did in
 *      sections before, and in each later one the owner sees all that the
 *      caller had stored before sections_barrier().
 * (S2) It is false: the owner sees that as soon as it has left.
 * What is seen by a barrier alone is ordered, but not passed on: plain data
 * goes from the owner to others by section_leave() -> section_is_left(), and
 * back by a release and an acquire of the word that the owner loads.
 *
 * Where the kernel has no such barrier (or a filter forbids it) nothing may
 * depend on sections: then no thread has a stash, see stash.h.  It is decided
 * once for the process.
 *
 * A section does not nest.  In the child of a fork those of the parent's other
 * threads are as they were, so maybe entered for ever.
 */
#ifndef SEG_SECTION_H
#define SEG_SECTION_H

#include "atomic.h"

struct section {
	struct atomic_u32 inside;	/* 0 or 1; written by the owner */
};

/*
 * Whether there is a barrier; if so, sections may be entered.  The first call
 * decides.  Keeps errno; later calls are wait-free, in the child of a fork,
 * too.
 */
bool sections_begin(void);

/* The owner's; wait-free.  What follows is ordered as above says. */
static inline void section_enter(struct section *s)
{
	/* relaxed: ordered with the loads that follow by sections_barrier(),
	 * as long as the compiler leaves it before them */
	u32_store_relaxed(&s->inside, 1);
	compiler_barrier();
}

/* The owner's; wait-free. */
static inline void section_leave(struct section *s)
{
	/* release -> section_is_left(): what was done inside */
	u32_store_release(&s->inside, 0);
	compiler_barrier();	/* what the owner loads next is after it (S2) */
}

/*
 * Any thread; lock-free.  Keeps errno.  False: the kernel, which had allowed
 * it, does not any more, and nothing is ordered: (S1) and (S2) do not hold.
 */
bool sections_barrier(void);

/*
 * Any thread, after sections_barrier(): whether the section was seen left in a
 * bounded number of looks, by an owner that is outside between any two of its
 * sections.  Lock-free.
 */
bool section_is_left(struct section *s);

#endif
