/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared limit.  Limit and charge stand in one 64-bit word, counted in
 * units of 4 KiB, so that the check and the change are one compare-exchange:
 *
 *   | bits 63..32 limit | bits 31..0 charged |
 *
 * Guarantees: (B1) charged <= limit in every value that the word ever has;
 * (B2) a charge fails only if it did not fit at some moment of the call;
 * (B3) a thread that waits is woken by every uncharge, release and raise that
 * follows its last look (the event count below).
 * Charge and uncharge are lock-free.  Why (B1): each operation computes the
 * new word from the old one and refuses before the exchange; there is no other
 * place where either number is written.
 *
 * Event count: who waits counts itself in, reads a ticket, looks again and
 * only then sleeps on the ticket.  Who gives something changes the state,
 * then reads the number of waiters.  Both in one total order (seq_cst), so one
 * of them sees the other: no wake-up is lost, and nobody pays a system call
 * while nobody waits.
 */
#ifndef SEG_BUDGET_H
#define SEG_BUDGET_H

#include "atomic.h"
#include "counter.h"
#include "reclaim.h"

enum { BUDGET_UNIT = 4096 };
#define BUDGET_MAX_BYTES ((uint64_t)UINT32_MAX * BUDGET_UNIT)

/* A pool that shares the budget. */
struct budget_member {
	struct atomic_ptr next;		/* read under RCU */
	/* Retires idle regions of at least the bytes; what they charge. */
	uint64_t (*shed)(struct budget_member *member, uint64_t bytes);
};

struct seg_budget {
	/* written by who maps and unmaps; read by the statistics */
	_Alignas(CACHE_LINE) struct atomic_u64 word;
	struct atomic_u64 peak_units;
	struct atomic_u64 refusals;
	struct atomic_u64 deferred_bytes;	/* charged, soon free ... */
	struct atomic_u64 stuck_bytes;	/* ... but for what won't unmap */
	/* read by every release, written by who waits */
	_Alignas(CACHE_LINE) struct atomic_u32 waiters;
	struct atomic_u32 wakes;
	struct atomic_u64 waits;
	/* written while the keeper is held */
	_Alignas(CACHE_LINE) struct atomic_ptr members;
	struct atomic_u64 member_count;
	struct reclaimers reclaimers;	/* its caches; see reclaim.h */
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

/* Counts a charge that is not even tried, since it would not fit. */
void budget_refuse(struct seg_budget *b);

/* One consistent pair of limit and charge. */
uint64_t budget_look(struct seg_budget *b);

/* Bytes are multiples of 4 KiB.  False: it does not fit. */
bool budget_charge(struct seg_budget *b, uint64_t bytes);
void budget_uncharge(struct seg_budget *b, uint64_t bytes);

/* Charged bytes of retired regions: they come free after a grace period. */
void budget_defer(struct seg_budget *b, uint64_t bytes);
void budget_uncharge_deferred(struct seg_budget *b, uint64_t bytes);
uint64_t budget_deferred(struct seg_budget *b);

/* The kernel refuses to unmap so many of them, or does so no longer. */
void budget_stick(struct seg_budget *b, uint64_t bytes);
void budget_unstick(struct seg_budget *b, uint64_t bytes);

/* What will be free without anybody's doing: deferred, and not stuck. */
uint64_t budget_coming(struct seg_budget *b);

/* False: more is charged than that; the old limit stays. */
bool budget_try_limit(struct seg_budget *b, uint64_t limit_bytes);

/* Something may be had again: memory, a slice, a region. */
void budget_notify(struct seg_budget *b);

/* begin, { ticket, look again, sleep }, end */
void budget_wait_begin(struct seg_budget *b);
uint32_t budget_wait_ticket(struct seg_budget *b);
void budget_wait_sleep(struct seg_budget *b, uint32_t ticket,
		       uint64_t timeout_ns);
void budget_wait_end(struct seg_budget *b);

/* budget_api.c: the pools that share it. */
void budget_join(struct seg_budget *b, struct budget_member *member);
/* Blocking: waits until nobody looks at the member any more. */
void budget_leave(struct seg_budget *b, struct budget_member *member);

/* Asks the pools to retire idle regions; the bytes that will come free. */
uint64_t budget_shed(struct seg_budget *b, uint64_t bytes);

#endif
