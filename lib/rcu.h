/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The only file that knows which RCU: liburcu's bp flavour, which registers
 * threads by itself and waits for all of them.
 *
 * Inlined in release builds; in sanitizer builds _LGPL_SOURCE is not defined,
 * so that the calls go to the uninstrumented library, and the edge that its
 * contract draws is told to ThreadSanitizer here (rcu.c):
 *   the end of a read section -> the end of a grace period, unless the section
 *   began after the grace period was asked for.
 * Publication is by C11 release stores and acquire loads.
 *
 * Read sections nest, are wait-free, and must not block: whoever stops inside
 * delays all unmapping.
 *
 * Those of the application, rcu_begin() to rcu_end(), are counted in the
 * thread's own words, too, so that a hit has one word to look at: rcu_place()
 * is not 0 only inside of them.  In a section it may be 0: of the library's, of
 * the application's own use of liburcu, of a thread without a place.  Then
 * rcu_inside() knows.  Begin and end go without a call where the kernel has the
 * barrier that liburcu's writers ask for (so readers need none), and liburcu's
 * record of the thread is still the one that was seen by the slow way: a thread
 * that ends loses it, and gets another one should it go on.
 */
#ifndef SEG_RCU_H
#define SEG_RCU_H

#ifdef SEG_EXPLORE
#include "explore_rcu.h"
#else

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <urcu/urcu-bp.h>

#include "counter.h"
#include "poison.h"

#ifdef SEG_TSAN
void rcu_seam_reader_enters(void);
void rcu_seam_reader_leaves(void);
uint64_t rcu_seam_grace_period_asked_for(void);
void rcu_seam_readers_gone(uint64_t phase);
#else
#define rcu_seam_reader_enters() ((void)0)
#define rcu_seam_reader_leaves() ((void)0)
#define rcu_seam_grace_period_asked_for() 0
#define rcu_seam_readers_gone(phase) ((void)(phase))
#endif

/* rcu.c: a thread's first section registers it, which blocks, and may set
 * errno; it is left alone. */
void rcu_enter_first(void);

/* rcu.c: whatever can come of these. */
void rcu_begin_slowly(void);
void rcu_end_slowly(void);

/* With the inlined read side, what is done once is kept out of the way. */
#ifdef _LGPL_SOURCE
static inline void rcu_enter(void)
{
	if (__builtin_expect(URCU_TLS(urcu_bp_reader) == NULL, 0)) {
		rcu_enter_first();
		return;
	}
	cmm_barrier();
	_urcu_bp_read_lock_update(URCU_TLS(urcu_bp_reader)->ctr);
}

/* Whether the calling thread is in a read section. */
static inline bool rcu_inside(void)
{
	return URCU_TLS(urcu_bp_reader) &&
	       (URCU_TLS(urcu_bp_reader)->ctr & URCU_BP_GP_CTR_NEST_MASK);
}

static inline void rcu_begin(void)
{
	struct urcu_bp_reader *r = URCU_TLS(urcu_bp_reader);
	struct counter_thread *t = &counter_thread;

	cmm_barrier();
	if (__builtin_expect(r != t->reader, 0)) {
		rcu_begin_slowly();
	} else if (__builtin_expect(r->ctr & URCU_BP_GP_CTR_NEST_MASK, 0)) {
		if (!t->now.depth++)
			t->now.place = t->begun.place;
		_CMM_STORE_SHARED(r->ctr, r->ctr + URCU_BP_GP_COUNT);
	} else {
		_CMM_STORE_SHARED(r->ctr, _CMM_LOAD_SHARED(urcu_bp_gp.ctr));
		cmm_barrier();
		t->now = t->begun;
	}
}

static inline bool rcu_leave_known(const struct counter_thread *t)
{
	struct urcu_bp_reader *r = URCU_TLS(urcu_bp_reader);
	unsigned long ctr;

	if (__builtin_expect(r != t->reader, 0) ||
	    __builtin_expect(!((ctr = r->ctr) & URCU_BP_GP_CTR_NEST_MASK), 0))
		return false;
	cmm_barrier();
	_CMM_STORE_SHARED(r->ctr, ctr - URCU_BP_GP_COUNT);
	cmm_barrier();
	return true;
}

static inline void rcu_end(void)
{
	struct counter_thread *t = &counter_thread;

	if (__builtin_expect(t->now.depth == 1, 1) && rcu_leave_known(t))
		t->now = (struct counter_section){ 0 };
	else if (t->now.depth > 1 && rcu_leave_known(t))
		t->now.depth--;
	else
		rcu_end_slowly();
}
#else
static inline void rcu_enter(void)
{
	rcu_enter_first();
}

static inline bool rcu_inside(void)
{
	return urcu_bp_read_ongoing();
}

#define rcu_begin() rcu_begin_slowly()
#define rcu_end() rcu_end_slowly()
#endif

/* Where the thread counts, if that is its own and it is in a section that the
 * application began; else 0. */
#define rcu_place() counter_thread.now.place

static inline void rcu_leave(void)
{
	rcu_seam_reader_leaves();
	urcu_bp_read_unlock();
}

/*
 * Blocking: waits until every read section that is open now has ended.  The
 * wait has cancellation points, and a thread that ends there would keep locks.
 */
static inline void rcu_wait_for_readers(void)
{
	uint64_t phase = rcu_seam_grace_period_asked_for();
	int saved = errno;
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	urcu_bp_synchronize_rcu();
	pthread_setcancelstate(before, &before);
	errno = saved;
	rcu_seam_readers_gone(phase);
}

static inline void rcu_before_fork(void)
{
	urcu_bp_before_fork();
}

static inline void rcu_after_fork_parent(void)
{
	urcu_bp_after_fork_parent();
}

static inline void rcu_after_fork_child(void)
{
	urcu_bp_after_fork_child();
}

#endif
#endif
