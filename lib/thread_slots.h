/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pointer of each thread's for each of up to 64 users (pools), found in two
 * loads.  What it points to is the user's: it is told when the thread ends, and
 * takes it away when it ends itself.
 *
 * One word of thread-local memory, so that the library can be loaded at run
 * time.  Reading is wait-free; all else takes a lock, for a moment, and a
 * thread's first pointer needs memory of malloc's.
 */
#ifndef SEG_THREAD_SLOTS_H
#define SEG_THREAD_SLOTS_H

#include <stdbool.h>

#include "atomic.h"

enum { THREAD_SLOTS = 64 };	/* as a slot's number: none */

/* The thread's; one more, that is always NULL. */
extern _Thread_local struct atomic_ptr *thread_slots;

/* A free slot, or THREAD_SLOTS; `end` is called in a thread that ends, with
 * its pointer. */
unsigned thread_slot_claim(void (*end)(void *));

/* Takes it from all threads; waits for those that are ending. */
void thread_slot_drop(unsigned slot);

/* False: no memory. */
bool thread_slot_set(unsigned slot, void *pointer);

#ifdef SEG_EXPLORE
#define thread_slot_get(slot) explore_thread_slot(slot)
#else
static inline void *thread_slot_get(unsigned slot)
{
	/* relaxed: the thread's own, or NULL from who drops it */
	return ptr_load_relaxed(&thread_slots[slot]);
}
#endif

void thread_slots_before_fork(void);
void thread_slots_after_fork(void);
/* Other threads are not there any more. */
void thread_slots_forked(void);

#endif
