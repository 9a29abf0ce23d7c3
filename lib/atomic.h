/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All shared state of the library is spelled with these types and functions:
 * C11 atomics whose order stands in the name.  The value is a struct member,
 * so that a plain (sequentially consistent) access does not compile.
 *
 * No standalone fences: ThreadSanitizer does not see them.  But for one that is
 * for the compiler alone, see section.h.
 *
 * With SEG_EXPLORE the same names come from the interleaving explorer
 * (tests/explore), which runs the same source under a scheduler of its own.
 */
#ifndef SEG_ATOMIC_H
#define SEG_ATOMIC_H

#ifdef SEG_EXPLORE
#include "explore_atomic.h"
#else

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A build that counts each thread's read-modify-writes (bench/segbench_count);
   a seq_cst store is one, too, on x86. */
#ifdef SEG_COUNT_ATOMICS
extern _Thread_local uint64_t seg_atomics_counted;
#define SEG_COUNT_ATOMIC() ((void)seg_atomics_counted++)
#else
#define SEG_COUNT_ATOMIC() ((void)0)
#endif

#define SEG_ATOMIC(name, type)                                                 \
	struct atomic_##name {                                                 \
		_Atomic(type) value;                                           \
	};                                                                     \
	static inline type name##_load_relaxed(const struct atomic_##name *a)  \
	{                                                                      \
		return atomic_load_explicit(&a->value, memory_order_relaxed);  \
	}                                                                      \
	static inline type name##_load_acquire(const struct atomic_##name *a)  \
	{                                                                      \
		return atomic_load_explicit(&a->value, memory_order_acquire);  \
	}                                                                      \
	static inline type name##_load_seq_cst(const struct atomic_##name *a)  \
	{                                                                      \
		return atomic_load_explicit(&a->value, memory_order_seq_cst);  \
	}                                                                      \
	static inline void name##_store_relaxed(struct atomic_##name *a,       \
						type v)                        \
	{                                                                      \
		atomic_store_explicit(&a->value, v, memory_order_relaxed);     \
	}                                                                      \
	static inline void name##_store_release(struct atomic_##name *a,       \
						type v)                        \
	{                                                                      \
		atomic_store_explicit(&a->value, v, memory_order_release);     \
	}                                                                      \
	static inline void name##_store_seq_cst(struct atomic_##name *a,       \
						type v)                        \
	{                                                                      \
		SEG_COUNT_ATOMIC();                                            \
		atomic_store_explicit(&a->value, v, memory_order_seq_cst);     \
	}                                                                      \
	static inline type name##_exchange_acquire(struct atomic_##name *a,    \
						   type v)                     \
	{                                                                      \
		SEG_COUNT_ATOMIC();                                            \
		return atomic_exchange_explicit(&a->value, v,                  \
						memory_order_acquire);         \
	}                                                                      \
	static inline type name##_exchange_acq_rel(struct atomic_##name *a,    \
						   type v)                     \
	{                                                                      \
		SEG_COUNT_ATOMIC();                                            \
		return atomic_exchange_explicit(&a->value, v,                  \
						memory_order_acq_rel);         \
	}                                                                      \
	SEG_ATOMIC_CAS(name, type, relaxed, memory_order_relaxed,              \
		       memory_order_relaxed)                                   \
	SEG_ATOMIC_CAS(name, type, acquire, memory_order_acquire,              \
		       memory_order_acquire)                                   \
	SEG_ATOMIC_CAS(name, type, release, memory_order_release,              \
		       memory_order_relaxed)                                   \
	SEG_ATOMIC_CAS(name, type, acq_rel, memory_order_acq_rel,              \
		       memory_order_acquire)                                   \
	SEG_ATOMIC_CAS(name, type, seq_cst, memory_order_seq_cst,              \
		       memory_order_seq_cst)

/* cas_weak may fail for no reason: for loops.  cas_strong does not. */
#define SEG_ATOMIC_CAS(name, type, order, success, failure)                    \
	static inline bool name##_cas_weak_##order(struct atomic_##name *a,    \
						   type *old, type v)          \
	{                                                                      \
		SEG_COUNT_ATOMIC();                                            \
		return atomic_compare_exchange_weak_explicit(                  \
			&a->value, old, v, success, failure);                  \
	}                                                                      \
	static inline bool name##_cas_strong_##order(struct atomic_##name *a,  \
						     type *old, type v)        \
	{                                                                      \
		SEG_COUNT_ATOMIC();                                            \
		return atomic_compare_exchange_strong_explicit(                \
			&a->value, old, v, success, failure);                  \
	}

/* These return the value before. */
#define SEG_ATOMIC_RMW(name, type, verb, order)                                \
	static inline type name##_##verb##_##order(struct atomic_##name *a,    \
						   type v)                     \
	{                                                                      \
		SEG_COUNT_ATOMIC();                                            \
		return atomic_fetch_##verb##_explicit(&a->value, v,            \
						      memory_order_##order);   \
	}

SEG_ATOMIC(u16, uint16_t)
SEG_ATOMIC(u32, uint32_t)
SEG_ATOMIC(u64, uint64_t)
SEG_ATOMIC(ptr, void *)
SEG_ATOMIC_RMW(u32, uint32_t, add, relaxed)
SEG_ATOMIC_RMW(u32, uint32_t, add, seq_cst)
SEG_ATOMIC_RMW(u32, uint32_t, sub, seq_cst)
SEG_ATOMIC_RMW(u64, uint64_t, add, relaxed)
SEG_ATOMIC_RMW(u64, uint64_t, add, seq_cst)
SEG_ATOMIC_RMW(u64, uint64_t, sub, relaxed)
SEG_ATOMIC_RMW(u64, uint64_t, sub, seq_cst)
SEG_ATOMIC_RMW(u64, uint64_t, or, seq_cst)
SEG_ATOMIC_RMW(u64, uint64_t, and, seq_cst)

/* The compiler moves nothing across; the processor may. */
static inline void compiler_barrier(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

#endif
#endif
