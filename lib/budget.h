/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared limit.  An account is a limit and a charge in one 64-bit word,
 * counted in units of 4 KiB, so that the check and the change are one
 * compare-exchange:
 *
 *   | bits 63..32 limit | bits 31..0 charged |
 *
 * A root budget is one account, `word`.  A child is two:
 *   reserve  limit: what it was guaranteed, which its parent was charged when
 *            the guarantee was given; charged: how much of that is used;
 *   word     limit: the rest of its own limit; charged: what it borrows, which
 *            its parent is charged as well, and the parent's parent, and so on.
 * A charge is served from the reserve as far as that goes, and the rest is
 * borrowed: first from the parent, then in the child's word.  An uncharge takes
 * from what is borrowed first: from the child's word, then from the parent.
 *
 * Guarantees: (B1) charged <= limit in every value that a word ever has, and so
 * in every sum of a child's two; (B2) a charge of a root fails only if it did
 * not fit at some moment of the call; (B3) a thread that waits is woken by
 * every uncharge, release and raise in the tree that follows its last look (the
 * event count below); (B4) what is charged within a guarantee never fails for
 * anybody outside of that child; (B5) a parent is charged at every instant for
 * at least its own pools, the guarantees of its children and what they borrow,
 * and for just that when no thread is inside a call; then nobody borrows who
 * has something left of its guarantee.
 *
 * Why (B1): each operation computes the new word from the old one and refuses
 * before the exchange; there is no other place where either number is written.
 * Why (B4): if charge + bytes <= guarantee, the reserve has room for the bytes,
 * since its charge is a part of all; nothing but the child's own reserve is
 * asked then.  A charge that is under way counts as one of the child's own.
 * Why (B5): parent first, then child; on the way back child first.  All that is
 * charged is in one of the two words, or in both for a moment, so who uncharges
 * finds it: in the word or, if nothing is borrowed, in the reserve, or after a
 * change of the guarantee in the word again.  Who leaves the reserve with room
 * looks at what is borrowed afterwards, who has borrowed looks at the reserve
 * afterwards, all in one total order (seq_cst): one of them sees the other, and
 * moves what it sees: it charges the reserve and uncharges as much, but at most
 * what it is about to charge or uncharge itself.  So what counts twice
 * meanwhile is no more than what counts anyway until it has returned.
 * Charge and uncharge are lock-free: they repeat only if another thread's
 * succeeded.  A thread that stops in the middle keeps what it was about to get.
 *
 * Event count, at the root, for the whole tree: who waits counts itself in,
 * reads a ticket, looks again and only then sleeps on the ticket.  Who gives
 * something changes the state, at all levels, then reads the number of waiters.
 * Both in one total order (seq_cst), so one of them sees the other, whichever
 * of the words the change was in: no wake-up is lost, and nobody pays a system
 * call while nobody waits.  A charge that failed half-way gives back as others
 * do, and so wakes who looked meanwhile.
 */
#ifndef SEG_BUDGET_H
#define SEG_BUDGET_H

#include "atomic.h"
#include "counter.h"
#include "publish.h"
#include "reclaim.h"

enum {
	BUDGET_UNIT = 4096,
	BUDGET_DEPTH = 8,		/* levels of a tree, with the root */
	BUDGET_SHARE = 100,		/* default */
	BUDGET_SHARE_MOST = 10000,
};
#define BUDGET_MAX_BYTES ((uint64_t)UINT32_MAX * BUDGET_UNIT)

/* A pool that shares the budget. */
struct budget_member {
	struct atomic_ptr next;		/* read under RCU */
	/* Retires idle regions of at least the bytes; what they charge. */
	uint64_t (*shed)(struct budget_member *member, uint64_t bytes);
	/* Gives up backing and charge of unused slices; what was uncharged.
	 * NULL: has none. */
	uint64_t (*decommit)(struct budget_member *member, uint64_t bytes);
	/* Says what it holds of it. */
	void (*report)(struct budget_member *member, struct seg_holder *holder);
};

struct seg_budget {
	/* written by who maps and unmaps; read by the statistics */
	_Alignas(CACHE_LINE) struct atomic_u64 word;
	struct atomic_u64 reserve;
	struct atomic_u64 peak_units;
	struct atomic_u64 refusals;
	struct atomic_u64 deferred_bytes;	/* charged, soon free ... */
	struct atomic_u64 stuck_bytes;	/* ... but for what won't unmap */
	/* read by every release, written by who waits; a child's own number
	 * is for the statistics */
	_Alignas(CACHE_LINE) struct atomic_u32 waiters;
	struct atomic_u32 wakes;
	struct atomic_u64 waits;
	struct seg_budget *parent;	/* written at creation; NULL: root */
	/* written while the keeper is held */
	_Alignas(CACHE_LINE) struct atomic_ptr members;
	struct atomic_u64 member_count;
	struct reclaimers reclaimers;	/* its caches; see reclaim.h */
	struct atomic_ptr children;	/* budget_tree.c ... */
	struct atomic_ptr next;		/* ... read under RCU, both */
	struct atomic_u64 child_count;
	struct atomic_u32 share;	/* of what is borrowed; a weight */
	struct atomic_u32 visits;	/* see budget_tree.c */
	unsigned depth;			/* written at creation; 0: root */
	struct budget_follower *follower;	/* budget_follow.c; or NULL */
	struct publish_item published;
};

static inline uint64_t budget_units(uint64_t bytes)
{
	return bytes / BUDGET_UNIT;
}

static inline uint64_t budget_word(uint64_t limit_units, uint64_t charged_units)
{
	return limit_units << 32 | charged_units;
}

static inline uint64_t budget_word_limit(uint64_t word)
{
	return (word >> 32) * BUDGET_UNIT;
}

static inline uint64_t budget_word_charged(uint64_t word)
{
	return (word & UINT32_MAX) * BUDGET_UNIT;
}

static inline uint64_t budget_word_room(uint64_t word)
{
	return budget_word_limit(word) - budget_word_charged(word);
}

/* Counts a charge that is not even tried, since it would not fit. */
void budget_refuse(struct seg_budget *b);

/* One consistent pair of limit and charge, of the budget itself. */
uint64_t budget_look(struct seg_budget *b);

/* Bytes are multiples of 4 KiB.  False: it does not fit. */
bool budget_charge(struct seg_budget *b, uint64_t bytes);
void budget_uncharge(struct seg_budget *b, uint64_t bytes);

/* What could be charged now, through all levels. */
uint64_t budget_room(struct seg_budget *b);

/* The lowest limit from here to the root. */
uint64_t budget_limit(struct seg_budget *b);

/* Charged bytes of retired regions: they come free after a grace period. */
void budget_defer(struct seg_budget *b, uint64_t bytes);
void budget_uncharge_deferred(struct seg_budget *b, uint64_t bytes);

/* The kernel refuses to unmap so many of them, or does so no longer. */
void budget_stick(struct seg_budget *b, uint64_t bytes);
void budget_unstick(struct seg_budget *b, uint64_t bytes);

/* False: more is charged than that; the old limit stays.  A child's is not
 * below its guarantee, and the keeper is held. */
bool budget_try_limit(struct seg_budget *b, uint64_t limit_bytes);

/* To the bytes, or to what is charged, if that is more: what it was set to. */
uint64_t budget_lower_limit(struct seg_budget *b, uint64_t limit_bytes);

/*
 * A child's guarantee, between 0 and its limit; the keeper is held.  False: the
 * parent has no room for it, and the old guarantee stays.
 */
bool budget_try_guarantee(struct seg_budget *b, uint64_t bytes);

/* Something may be had again: memory, a slice, a region. */
void budget_wake(struct seg_budget *root);

static inline struct seg_budget *budget_root(struct seg_budget *b)
{
	while (b->parent)
		b = b->parent;
	return b;
}

static inline bool budget_has_waiters(struct seg_budget *b)
{
	/* seq_cst: load after the caller's store, see budget_wait_begin() */
	return u32_load_seq_cst(&budget_root(b)->waiters) != 0;
}

static inline void budget_notify(struct seg_budget *b)
{
	if (__builtin_expect(budget_has_waiters(b), 0))
		budget_wake(budget_root(b));
}

/* begin, { ticket, look again, sleep }, end */
void budget_wait_begin(struct seg_budget *b);
uint32_t budget_wait_ticket(struct seg_budget *b);
void budget_wait_sleep(struct seg_budget *b, uint32_t ticket,
		       uint64_t timeout_ns);
void budget_wait_end(struct seg_budget *b);

/* ---- budget_tree.c: who shares it, and who gives back ---- */

void budget_join(struct seg_budget *b, struct budget_member *member);
/* Blocking: waits until nobody looks at the member any more. */
void budget_leave(struct seg_budget *b, struct budget_member *member);

/* The same for a child and its parent; the keeper is held by the caller for
 * the first two and the last. */
void budget_link_child(struct seg_budget *child);
void budget_unlink_child(struct seg_budget *child);
void budget_await_visits(struct seg_budget *child);
/* The last of all: from now on the parent may be destroyed. */
void budget_forget_child(struct seg_budget *parent);

/* Calls fn for each child, in a read section. */
void budget_each_child(struct seg_budget *b,
		       void (*fn)(void *ctx, struct seg_budget *child),
		       void *ctx);

/* What a child has of its parent: its guarantee, and what it borrows. */
uint64_t budget_guaranteed(struct seg_budget *b);
uint64_t budget_borrowed(struct seg_budget *b);

/* Of its own pools, and of those below it. */
uint64_t budget_deferred_below(struct seg_budget *b);

/*
 * All of these work where memory is missing: at the lowest budget, from this
 * one to the root, that has no room left.  Bytes are what is missing, beyond
 * what there is room for.  Who holds more than its share of what is borrowed is
 * asked first; nobody is asked for a part of its guarantee.
 */

/* Charged bytes that will be free without anybody's doing: of all retired
 * regions, or without those that the kernel does not take. */
uint64_t budget_deferred(struct seg_budget *b);
uint64_t budget_coming(struct seg_budget *b);

/* Asks the pools to retire idle regions; the bytes that will come free. */
uint64_t budget_shed(struct seg_budget *b, uint64_t bytes);

/* Asks the pools for the charge of unused slices; what was uncharged. */
uint64_t budget_decommit(struct seg_budget *b, uint64_t bytes);

/* Asks the reclaimers; what they gave back to their pools. */
uint64_t budget_reclaim(struct seg_budget *b, uint64_t bytes,
			enum reclaim_whom whom);

/* For a child's guarantee, of which so much is missing at the parent: all but
 * the child give back what is unused, or what reclaimers hold. */
void budget_give_unused(struct seg_budget *child, uint64_t bytes);
void budget_give_reclaimed(struct seg_budget *child, uint64_t bytes);

/* Lists the reclaimers of children that may be asked for it, since they borrow;
 * those of the budget itself and those above it are not among them. */
void budget_list_borrowers(struct seg_budget *b, struct seg_refusal *refusal);

/* All three for what the budget itself and those below it have charged. */
void budget_shrink(struct seg_budget *b, uint64_t bytes);

#endif
