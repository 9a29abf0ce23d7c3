/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The second backend of lib/atomic.h: the same types and operations, run by
 * the explorer.  Each operation knows its site (function, line, operation),
 * is a scheduling point, and can be mutated there.  A cell of zeros holds 0.
 */
#ifndef EXPLORE_ATOMIC_H
#define EXPLORE_ATOMIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* The library's own assertions count, and its tables are small. */
#ifndef SEG_DEBUG
#define SEG_DEBUG 1
#endif
#define BANDS_FANOUT 2
#define BANDS_TOP_WORDS 1
#define INDEX_BASE_BITS 0
#define INDEX_BUCKETS 4
#define GATE_SPINS 1
#define CACHE_BATCH_LEAST 1
#define CACHE_GROUP_BYTES 1024
#define CACHE_GROUPS 8
#define PIN_SLOTS 2
#define BARRIER_PINS 0
#define OPEN_PINS 0
#define SECTION_LOOKS 2
#define STASH_MOST 4
#define STASH_BATCH 4
#define STASH_CLAIMS 2
#define STASH_PAGE CACHE_LINE
#define INBOX_PARCELS 1
#define PARCEL_LEAST 2
#define INBOX_SHARE 1
#define GATHER_PATIENCE 0
#define CHUNK_REGIONS 2
#define ARRAYS_INSIDE 0

/* A fiber is a thread. */
unsigned explore_thread(void);
#define pthread_self() ((pthread_t)(explore_thread() + 1))

/* lib/thread_slots.h: one slot, and a pointer of each fiber's. */
void *explore_thread_slot(unsigned slot);

/* For lib/counter.h: threads 0 and 1 own their counts, the others share. */
#define explore_slot() (explore_thread() < 2 ? explore_thread() : 2u)
#define explore_slots() 3u
#define explore_owns(slot) ((slot) < 2)

/* Bits, so that the halves of an order can be asked for. */
enum explore_order {
	EXPLORE_relaxed = 0,
	EXPLORE_acquire = 1,
	EXPLORE_release = 2,
	EXPLORE_acq_rel = 3,
	EXPLORE_seq_cst = 7
};

/* One place in the source; interned under id (0: not yet) when reached. */
struct explore_site {
	const char *file;
	const char *op;
	const char *function;
	int line;
	unsigned id;
	enum explore_order order;
};

struct explore_word {
	uint64_t value;		/* of the newest store */
	uint32_t execution;	/* that the history is of */
	uint32_t history;
};

enum explore_verb { EXPLORE_ADD, EXPLORE_SUB, EXPLORE_OR, EXPLORE_AND };

uint64_t explore_load(struct explore_site *site, const struct explore_word *w);
void explore_store(struct explore_site *site, struct explore_word *w,
		   uint64_t v);
uint64_t explore_exchange(struct explore_site *site, struct explore_word *w,
			  uint64_t v);
bool explore_cas(struct explore_site *site, struct explore_word *w,
		 uint64_t *old, uint64_t v, bool weak);
/* The new value is cut to mask; returns the old one. */
uint64_t explore_rmw(struct explore_site *site, struct explore_word *w,
		     enum explore_verb verb, uint64_t v, uint64_t mask);

#define EXPLORE_CAS(name, type, in, out, verb, weak)                           \
	static inline bool name##_##verb##_at(struct explore_site *site,       \
					      struct atomic_##name *a,         \
					      type *old, type v)               \
	{                                                                      \
		uint64_t raw = in(*old);                                       \
		bool won = explore_cas(site, &a->word, &raw, in(v), weak);     \
									       \
		*old = out(raw);                                               \
		return won;                                                    \
	}

#define EXPLORE_RMW(name, type, verb, VERB)                                    \
	static inline type name##_##verb##_at(struct explore_site *site,       \
					      struct atomic_##name *a, type v) \
	{                                                                      \
		return (type)explore_rmw(site, &a->word, VERB, v,              \
					 (type) ~(type)0);                     \
	}

/* in and out: between the type and the raw 64 bits */
#define EXPLORE_TYPE(name, type, in, out)                                      \
	struct atomic_##name {                                                 \
		struct explore_word word;                                      \
	};                                                                     \
	static inline type name##_load_at(struct explore_site *site,           \
					  const struct atomic_##name *a)       \
	{                                                                      \
		return out(explore_load(site, &a->word));                      \
	}                                                                      \
	static inline void name##_store_at(struct explore_site *site,          \
					   struct atomic_##name *a, type v)    \
	{                                                                      \
		explore_store(site, &a->word, in(v));                          \
	}                                                                      \
	static inline type name##_exchange_at(struct explore_site *site,       \
					      struct atomic_##name *a, type v) \
	{                                                                      \
		return out(explore_exchange(site, &a->word, in(v)));           \
	}                                                                      \
	EXPLORE_CAS(name, type, in, out, cas_weak, true)                       \
	EXPLORE_CAS(name, type, in, out, cas_strong, false)

#define EXPLORE_RAW(v) ((uint64_t)(v))
#define EXPLORE_RAW_PTR(v) ((uint64_t)(uintptr_t)(v))
#define EXPLORE_U16(v) ((uint16_t)(v))
#define EXPLORE_U32(v) ((uint32_t)(v))
#define EXPLORE_PTR(v) ((void *)(uintptr_t)(v))

EXPLORE_TYPE(u16, uint16_t, EXPLORE_RAW, EXPLORE_U16)
EXPLORE_TYPE(u32, uint32_t, EXPLORE_RAW, EXPLORE_U32)
EXPLORE_TYPE(u64, uint64_t, EXPLORE_RAW, EXPLORE_RAW)
EXPLORE_TYPE(ptr, void *, EXPLORE_RAW_PTR, EXPLORE_PTR)
EXPLORE_RMW(u32, uint32_t, add, EXPLORE_ADD)
EXPLORE_RMW(u32, uint32_t, sub, EXPLORE_SUB)
EXPLORE_RMW(u64, uint64_t, add, EXPLORE_ADD)
EXPLORE_RMW(u64, uint64_t, sub, EXPLORE_SUB)
EXPLORE_RMW(u64, uint64_t, or, EXPLORE_OR)
EXPLORE_RMW(u64, uint64_t, and, EXPLORE_AND)

/* The explorer's own data in the library's code: see plain.c. */
#define EXPLORE_OWN __attribute__((section("explore_own")))

#define EXPLORE_SITE(name, how)                                                \
	({                                                                     \
		static struct explore_site here_ EXPLORE_OWN = {               \
			.file = __FILE__,                                      \
			.op = name,                                            \
			.line = __LINE__,                                      \
			.order = EXPLORE_##how,                                \
		};                                                             \
		here_.function = __func__;                                     \
		&here_;                                                        \
	})
#define EXPLORE_OP(type, verb, how, ...)                                       \
	type##_##verb##_at(EXPLORE_SITE(#verb "_" #how, how), __VA_ARGS__)

#define u16_load_relaxed(...) EXPLORE_OP(u16, load, relaxed, __VA_ARGS__)
#define u16_load_acquire(...) EXPLORE_OP(u16, load, acquire, __VA_ARGS__)
#define u16_load_seq_cst(...) EXPLORE_OP(u16, load, seq_cst, __VA_ARGS__)
#define u16_store_relaxed(...) EXPLORE_OP(u16, store, relaxed, __VA_ARGS__)
#define u16_store_release(...) EXPLORE_OP(u16, store, release, __VA_ARGS__)
#define u16_store_seq_cst(...) EXPLORE_OP(u16, store, seq_cst, __VA_ARGS__)
#define u16_exchange_acquire(...) \
	EXPLORE_OP(u16, exchange, acquire, __VA_ARGS__)
#define u16_exchange_acq_rel(...) \
	EXPLORE_OP(u16, exchange, acq_rel, __VA_ARGS__)
#define u16_cas_weak_relaxed(...) \
	EXPLORE_OP(u16, cas_weak, relaxed, __VA_ARGS__)
#define u16_cas_weak_acquire(...) \
	EXPLORE_OP(u16, cas_weak, acquire, __VA_ARGS__)
#define u16_cas_weak_release(...) \
	EXPLORE_OP(u16, cas_weak, release, __VA_ARGS__)
#define u16_cas_weak_acq_rel(...) \
	EXPLORE_OP(u16, cas_weak, acq_rel, __VA_ARGS__)
#define u16_cas_weak_seq_cst(...) \
	EXPLORE_OP(u16, cas_weak, seq_cst, __VA_ARGS__)
#define u16_cas_strong_relaxed(...) \
	EXPLORE_OP(u16, cas_strong, relaxed, __VA_ARGS__)
#define u16_cas_strong_acquire(...) \
	EXPLORE_OP(u16, cas_strong, acquire, __VA_ARGS__)
#define u16_cas_strong_release(...) \
	EXPLORE_OP(u16, cas_strong, release, __VA_ARGS__)
#define u16_cas_strong_acq_rel(...) \
	EXPLORE_OP(u16, cas_strong, acq_rel, __VA_ARGS__)
#define u16_cas_strong_seq_cst(...) \
	EXPLORE_OP(u16, cas_strong, seq_cst, __VA_ARGS__)
#define u32_load_relaxed(...) EXPLORE_OP(u32, load, relaxed, __VA_ARGS__)
#define u32_load_acquire(...) EXPLORE_OP(u32, load, acquire, __VA_ARGS__)
#define u32_load_seq_cst(...) EXPLORE_OP(u32, load, seq_cst, __VA_ARGS__)
#define u32_store_relaxed(...) EXPLORE_OP(u32, store, relaxed, __VA_ARGS__)
#define u32_store_release(...) EXPLORE_OP(u32, store, release, __VA_ARGS__)
#define u32_store_seq_cst(...) EXPLORE_OP(u32, store, seq_cst, __VA_ARGS__)
#define u32_exchange_acquire(...) \
	EXPLORE_OP(u32, exchange, acquire, __VA_ARGS__)
#define u32_exchange_acq_rel(...) \
	EXPLORE_OP(u32, exchange, acq_rel, __VA_ARGS__)
#define u32_cas_weak_relaxed(...) \
	EXPLORE_OP(u32, cas_weak, relaxed, __VA_ARGS__)
#define u32_cas_weak_acquire(...) \
	EXPLORE_OP(u32, cas_weak, acquire, __VA_ARGS__)
#define u32_cas_weak_release(...) \
	EXPLORE_OP(u32, cas_weak, release, __VA_ARGS__)
#define u32_cas_weak_acq_rel(...) \
	EXPLORE_OP(u32, cas_weak, acq_rel, __VA_ARGS__)
#define u32_cas_weak_seq_cst(...) \
	EXPLORE_OP(u32, cas_weak, seq_cst, __VA_ARGS__)
#define u32_cas_strong_relaxed(...) \
	EXPLORE_OP(u32, cas_strong, relaxed, __VA_ARGS__)
#define u32_cas_strong_acquire(...) \
	EXPLORE_OP(u32, cas_strong, acquire, __VA_ARGS__)
#define u32_cas_strong_release(...) \
	EXPLORE_OP(u32, cas_strong, release, __VA_ARGS__)
#define u32_cas_strong_acq_rel(...) \
	EXPLORE_OP(u32, cas_strong, acq_rel, __VA_ARGS__)
#define u32_cas_strong_seq_cst(...) \
	EXPLORE_OP(u32, cas_strong, seq_cst, __VA_ARGS__)
#define u64_load_relaxed(...) EXPLORE_OP(u64, load, relaxed, __VA_ARGS__)
#define u64_load_acquire(...) EXPLORE_OP(u64, load, acquire, __VA_ARGS__)
#define u64_load_seq_cst(...) EXPLORE_OP(u64, load, seq_cst, __VA_ARGS__)
#define u64_store_relaxed(...) EXPLORE_OP(u64, store, relaxed, __VA_ARGS__)
#define u64_store_release(...) EXPLORE_OP(u64, store, release, __VA_ARGS__)
#define u64_store_seq_cst(...) EXPLORE_OP(u64, store, seq_cst, __VA_ARGS__)
#define u64_exchange_acquire(...) \
	EXPLORE_OP(u64, exchange, acquire, __VA_ARGS__)
#define u64_exchange_acq_rel(...) \
	EXPLORE_OP(u64, exchange, acq_rel, __VA_ARGS__)
#define u64_cas_weak_relaxed(...) \
	EXPLORE_OP(u64, cas_weak, relaxed, __VA_ARGS__)
#define u64_cas_weak_acquire(...) \
	EXPLORE_OP(u64, cas_weak, acquire, __VA_ARGS__)
#define u64_cas_weak_release(...) \
	EXPLORE_OP(u64, cas_weak, release, __VA_ARGS__)
#define u64_cas_weak_acq_rel(...) \
	EXPLORE_OP(u64, cas_weak, acq_rel, __VA_ARGS__)
#define u64_cas_weak_seq_cst(...) \
	EXPLORE_OP(u64, cas_weak, seq_cst, __VA_ARGS__)
#define u64_cas_strong_relaxed(...) \
	EXPLORE_OP(u64, cas_strong, relaxed, __VA_ARGS__)
#define u64_cas_strong_acquire(...) \
	EXPLORE_OP(u64, cas_strong, acquire, __VA_ARGS__)
#define u64_cas_strong_release(...) \
	EXPLORE_OP(u64, cas_strong, release, __VA_ARGS__)
#define u64_cas_strong_acq_rel(...) \
	EXPLORE_OP(u64, cas_strong, acq_rel, __VA_ARGS__)
#define u64_cas_strong_seq_cst(...) \
	EXPLORE_OP(u64, cas_strong, seq_cst, __VA_ARGS__)
#define ptr_load_relaxed(...) EXPLORE_OP(ptr, load, relaxed, __VA_ARGS__)
#define ptr_load_acquire(...) EXPLORE_OP(ptr, load, acquire, __VA_ARGS__)
#define ptr_load_seq_cst(...) EXPLORE_OP(ptr, load, seq_cst, __VA_ARGS__)
#define ptr_store_relaxed(...) EXPLORE_OP(ptr, store, relaxed, __VA_ARGS__)
#define ptr_store_release(...) EXPLORE_OP(ptr, store, release, __VA_ARGS__)
#define ptr_store_seq_cst(...) EXPLORE_OP(ptr, store, seq_cst, __VA_ARGS__)
#define ptr_exchange_acquire(...) \
	EXPLORE_OP(ptr, exchange, acquire, __VA_ARGS__)
#define ptr_exchange_acq_rel(...) \
	EXPLORE_OP(ptr, exchange, acq_rel, __VA_ARGS__)
#define ptr_cas_weak_relaxed(...) \
	EXPLORE_OP(ptr, cas_weak, relaxed, __VA_ARGS__)
#define ptr_cas_weak_acquire(...) \
	EXPLORE_OP(ptr, cas_weak, acquire, __VA_ARGS__)
#define ptr_cas_weak_release(...) \
	EXPLORE_OP(ptr, cas_weak, release, __VA_ARGS__)
#define ptr_cas_weak_acq_rel(...) \
	EXPLORE_OP(ptr, cas_weak, acq_rel, __VA_ARGS__)
#define ptr_cas_weak_seq_cst(...) \
	EXPLORE_OP(ptr, cas_weak, seq_cst, __VA_ARGS__)
#define ptr_cas_strong_relaxed(...) \
	EXPLORE_OP(ptr, cas_strong, relaxed, __VA_ARGS__)
#define ptr_cas_strong_acquire(...) \
	EXPLORE_OP(ptr, cas_strong, acquire, __VA_ARGS__)
#define ptr_cas_strong_release(...) \
	EXPLORE_OP(ptr, cas_strong, release, __VA_ARGS__)
#define ptr_cas_strong_acq_rel(...) \
	EXPLORE_OP(ptr, cas_strong, acq_rel, __VA_ARGS__)
#define ptr_cas_strong_seq_cst(...) \
	EXPLORE_OP(ptr, cas_strong, seq_cst, __VA_ARGS__)
#define u32_add_relaxed(...) EXPLORE_OP(u32, add, relaxed, __VA_ARGS__)
#define u32_add_seq_cst(...) EXPLORE_OP(u32, add, seq_cst, __VA_ARGS__)
#define u32_sub_seq_cst(...) EXPLORE_OP(u32, sub, seq_cst, __VA_ARGS__)
#define u64_add_relaxed(...) EXPLORE_OP(u64, add, relaxed, __VA_ARGS__)
#define u64_add_seq_cst(...) EXPLORE_OP(u64, add, seq_cst, __VA_ARGS__)
#define u64_sub_relaxed(...) EXPLORE_OP(u64, sub, relaxed, __VA_ARGS__)
#define u64_sub_seq_cst(...) EXPLORE_OP(u64, sub, seq_cst, __VA_ARGS__)
#define u64_or_seq_cst(...) EXPLORE_OP(u64, or, seq_cst, __VA_ARGS__)
#define u64_and_seq_cst(...) EXPLORE_OP(u64, and, seq_cst, __VA_ARGS__)

/* What compilers would move is not explored, only what processors do. */
static inline void compiler_barrier(void)
{
}

/* lib/cache_release.c has a pointer of each thread: the fiber's own. */
struct frame;
struct frame **explore_frames(void);

#endif
