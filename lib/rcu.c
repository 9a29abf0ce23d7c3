/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ThreadSanitizer half of rcu.h, but for the first function.
 *
 * Each call for a grace period ends a phase.  A reader is labelled with the
 * phase in which it enters, and its end is an edge to the calls that end this
 * phase or a later one.  To an earlier call there is none: RCU does not promise
 * to wait for this reader, even if it happens to be gone by then.
 *
 * A label may be too old, never too new: it is taken before the section begins,
 * and the phase is ended after the caller's unlinking.  Who reads the new phase
 * can't find what was unlinked: so it is on x86, which keeps the order of loads
 * and that of stores.  (On a weaker machine a relaxed load may come late, and
 * a correct program be reported.  Acquire and release would cure that, but are
 * edges themselves.)
 *
 * There is an address to release and acquire for each of the last phases.
 * What is older is in `past`: each grace period adds what it knows (liburcu's
 * lock is an edge between them anyway), and so does a reader of an old label.
 * While a reader is inside, no call returns: so up to WINDOW - OLD threads may
 * wait at a time.
 */
#include "rcu.h"

void rcu_enter_first(void)
{
	int saved = errno;

	/* It may have ended in one of the application's, and go on. */
	if (!rcu_inside())
		counter_thread.now = (struct counter_section){ 0 };
	rcu_seam_reader_enters();
	urcu_bp_read_lock();
	errno = saved;
}

/* What is known of a thread that is in no section says nothing: it may have
 * ended in one. */
void rcu_begin_slowly(void)
{
	struct counter_thread *t = &counter_thread;
	int saved = errno;

	if (!rcu_inside())
		t->now = (struct counter_section){ 0 };
	rcu_enter();
	if (t->now.depth++ == 0)
		t->now.place = t->begun.place;
#ifdef _LGPL_SOURCE
	if (urcu_bp_has_sys_membarrier)
		t->reader = URCU_TLS(urcu_bp_reader);
#endif
	errno = saved;
}

/* More ends than begins end nothing, also in a section of somebody else's. */
void rcu_end_slowly(void)
{
	struct counter_section *now = &counter_thread.now;

	if (!rcu_inside())
		*now = (struct counter_section){ 0 };
	if (now->depth == 0)
		return;
	if (--now->depth == 0)
		now->place = 0;
	rcu_leave();
}

#ifdef SEG_TSAN
#include "atomic.h"

enum { PHASES = 1024, WINDOW = 64, OLD = 16 };

static char left[PHASES];
static char past;
static struct atomic_u64 current;

static _Thread_local uint64_t label;
static _Thread_local unsigned int depth;

void rcu_seam_reader_enters(void)
{
	/* relaxed: ThreadSanitizer is to see no edge; see above */
	if (depth++ == 0)
		label = u64_load_relaxed(&current);
}

void rcu_seam_reader_leaves(void)
{
	if (--depth > 0)
		return;
	__tsan_release(&left[label % PHASES]);
	/* relaxed: a number, of which only the distance counts */
	if (u64_load_relaxed(&current) - label >= OLD)
		__tsan_release(&past);
}

uint64_t rcu_seam_grace_period_asked_for(void)
{
	/* relaxed: ThreadSanitizer is to see no edge; see above */
	return u64_add_relaxed(&current, 1);
}

void rcu_seam_readers_gone(uint64_t phase)
{
	for (uint64_t age = 0; age < WINDOW; age++)
		__tsan_acquire(&left[(phase - age) % PHASES]);
	__tsan_acquire(&past);
	__tsan_release(&past);
}
#endif
