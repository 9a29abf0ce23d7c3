/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plain accesses of the library, if it was compiled with
 * -fsanitize=thread: then each of them calls one of these functions, which are
 * ThreadSanitizer's by name, and is checked for races as cells are.
 *
 * One shadow cell for each 4 bytes (so flags that share them count as one), in
 * a table that each execution begins anew.  Stacks are not looked at: what is
 * on them is its fiber's own.
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SHADOWS = 1 << 12, GRANULE = 4 };

struct shadow {
	uintptr_t granule;
	uint32_t execution;	/* that it is of */
	const void *code;	/* of the last access */
	struct explore_cell cell;
};

extern char __executable_start[];
extern char __start_explore_own[], __stop_explore_own[];

static struct shadow shadows[SHADOWS];
static bool in_use;

bool plain_in_use(void)
{
	return in_use;
}

static struct shadow *shadow_of(uintptr_t granule)
{
	unsigned at = (unsigned)(granule * 0x9e3779b1u) % SHADOWS;

	for (unsigned i = 0; i < SHADOWS; i++) {
		struct shadow *s = &shadows[(at + i) % SHADOWS];

		if (s->execution != engine.execution) {
			memset(s, 0, sizeof(*s));
			s->execution = engine.execution;
			s->granule = granule;
		}
		if (s->granule == granule)
			return s;
	}
	abort();
}

/* Not shared between threads, or the explorer's own. */
static bool is_own(const void *address)
{
	return engine_is_stack(address) ||
	       address == (const void *)explore_inside() ||
	       address == (const void *)&errno ||
	       ((const char *)address >= __start_explore_own &&
		(const char *)address < __stop_explore_own);
}

/* What addr2line can tell the line of. */
static unsigned long place(const void *code)
{
	return (unsigned long)((const char *)code - __executable_start);
}

static void check(const void *address, size_t bytes, bool writes,
		  const void *code)
{
	uintptr_t first = (uintptr_t)address / GRANULE;
	uintptr_t last = ((uintptr_t)address + bytes - 1) / GRANULE;
	const char *misuse;

	if (!engine.running || !bytes || is_own(address))
		return;
	misuse = world_misuse(address);
	if (misuse)
		explore_fail("plain access at 0x%lx %s", place(code), misuse);
	for (uintptr_t g = first; g <= last; g++) {
		struct shadow *s = shadow_of(g);

		if (cell_races(&s->cell, writes))
			explore_fail("plain %s at 0x%lx races with 0x%lx",
				     writes ? "write" : "read", place(code),
				     place(s->code));
		s->code = code;
	}
}

#define CALLER __builtin_return_address(0)
#define ONE(name, bytes, writes)                                               \
	void __tsan_##name##bytes(void *address);                              \
	void __tsan_##name##bytes(void *address)                               \
	{                                                                      \
		check(address, bytes, writes, CALLER);                         \
	}
#define ALL(bytes)                                                             \
	ONE(read, bytes, false)                                                \
	ONE(write, bytes, true)                                                \
	ONE(unaligned_read, bytes, false)                                      \
	ONE(unaligned_write, bytes, true)

ALL(1)
ALL(2)
ALL(4)
ALL(8)
ALL(16)

void __tsan_init(void);
void __tsan_func_entry(void *from);
void __tsan_func_exit(void);
void __tsan_read_range(void *address, size_t bytes);
void __tsan_write_range(void *address, size_t bytes);
void *__tsan_memcpy(void *to, const void *from, size_t bytes);
void *__tsan_memmove(void *to, const void *from, size_t bytes);
void *__tsan_memset(void *to, int value, size_t bytes);

/* Each object file that was compiled so calls it, before main(). */
void __tsan_init(void)
{
	in_use = true;
}

void __tsan_func_entry(void *from)
{
	(void)from;
}

void __tsan_func_exit(void)
{
}

void __tsan_read_range(void *address, size_t bytes)
{
	check(address, bytes, false, CALLER);
}

void __tsan_write_range(void *address, size_t bytes)
{
	check(address, bytes, true, CALLER);
}

void *__tsan_memcpy(void *to, const void *from, size_t bytes)
{
	check(from, bytes, false, CALLER);
	check(to, bytes, true, CALLER);
	return memcpy(to, from, bytes);
}

void *__tsan_memmove(void *to, const void *from, size_t bytes)
{
	check(from, bytes, false, CALLER);
	check(to, bytes, true, CALLER);
	return memmove(to, from, bytes);
}

void *__tsan_memset(void *to, int value, size_t bytes)
{
	check(to, bytes, true, CALLER);
	return memset(to, value, bytes);
}
