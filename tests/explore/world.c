/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library has below itself: RCU by its contract, memory that is never
 * used twice in an execution, futexes, a clock that stands still.
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "explore_rcu.h"
#include "os.h"
#include "pool.h"

enum {
	ARENA_BYTES = 1 << 20,
	BLOCKS = 128,
	LINE = 64,
	PAGE = 4096,
	MAPPINGS = 16,
	MAPPING_PAGES = 4,
};

struct block {
	char *at;
	size_t bytes;
	bool freed;
	uint8_t owner;		/* who got it, and when */
	uint16_t time;
};

unsigned explore_maps_left;
unsigned explore_advices_left;
bool explore_timeouts;
uint64_t explore_now_ns[EXPLORE_THREADS];
bool explore_no_grace_period;
unsigned explore_barriers_left;
unsigned explore_misuses_left;
bool explore_new_addresses;
static bool no_barrier;

static const uint64_t tag_one = (uint64_t)1 << 30;
uint64_t explore_tag_one = (uint64_t)1 << 30;

static _Alignas(4096) char arena[ARENA_BYTES];
static size_t arena_used;
static struct block blocks[BLOCKS];
static unsigned block_count;

struct mapping {
	uintptr_t base;
	size_t bytes;
	bool mapped;
	struct explore_cell cell[MAPPING_PAGES];
};

static struct mapping mappings[MAPPINGS];	/* the last one stays empty */
static uintptr_t next_base;
static struct clock grace_periods;	/* what came before any of them */
static unsigned nesting_outside;	/* read sections of setup, post */

struct sleeper {
	struct atomic_u32 *word;
	bool woken;
};

static struct sleeper sleepers[EXPLORE_THREADS];

void explore_throw_tag(bool on)
{
	explore_tag_one = on ? 0 : tag_one;
}

void explore_throw_grace_period(bool on)
{
	explore_no_grace_period = on;
}

void explore_throw_barrier(bool on)
{
	no_barrier = on;
}

void world_reset(void)
{
	memset(arena, 0, arena_used);
	memset(&grace_periods, 0, sizeof(grace_periods));
	arena_used = 0;
	block_count = 0;
	memset(mappings, 0, sizeof(mappings));
	next_base = EXPLORE_FIRST_REGION;
	explore_maps_left = 64;
	explore_advices_left = 64;
	explore_barriers_left = 64;
	explore_misuses_left = 0;
	explore_new_addresses = false;
	thread_slot_drop(0);
	explore_timeouts = false;
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		explore_now_ns[i] = 1;
	memset(sleepers, 0, sizeof(sleepers));
	memset(&topology.count, 0, sizeof(topology.count));
	nesting_outside = 0;
}

/* ---- memory ---- */

static struct block *block_of(const void *address)
{
	const char *at = address;

	for (unsigned i = 0; i < block_count; i++)
		if (at >= blocks[i].at && at < blocks[i].at + blocks[i].bytes)
			return &blocks[i];
	return NULL;
}

/* Memory of ours is used while it is there, by who knows that it is. */
const char *world_misuse(const void *address)
{
	const struct block *b;

	if ((const char *)address < arena ||
	    (const char *)address >= arena + arena_used)
		return NULL;
	b = block_of(address);
	if (!b)
		return "beside memory";
	if (b->freed)
		return "after free";
	if (engine.running && b->time > engine_self()->now.at[b->owner])
		return "before publication";
	return NULL;
}

/* Whatever the new owner does comes after this moment of its time. */
static void note_owner(struct block *b)
{
	if (!engine.running)
		return;
	b->owner = (uint8_t)engine.current;
	b->time = ++engine_self()->now.at[engine.current];
}

static void *arena_take(size_t bytes, size_t align)
{
	size_t at = (arena_used + align - 1) & ~(align - 1);

	if (at + bytes > ARENA_BYTES || block_count == BLOCKS)
		abort();
	arena_used = at + bytes;
	blocks[block_count] = (struct block){ .at = arena + at,
					      .bytes = bytes };
	note_owner(&blocks[block_count++]);
	return arena + at;
}

static void arena_give(void *memory)
{
	struct block *b = block_of(memory);

	if (!b || b->freed || b->at != memory)
		explore_fail("free of what was not allocated");
	b->freed = true;
}

void *os_calloc(size_t count, size_t bytes)
{
	return arena_take(count * bytes, LINE);
}

void *os_realloc(void *memory, size_t bytes)
{
	struct block *b = memory ? block_of(memory) : NULL;
	void *moved = arena_take(bytes, LINE);

	if (b) {
		memcpy(moved, memory, b->bytes < bytes ? b->bytes : bytes);
		arena_give(memory);
	}
	return moved;
}

void os_free(void *memory)
{
	if (memory)
		arena_give(memory);
}

/*
 * Regions are aligned to 2 MiB, and their slices are never touched: a mapping
 * is a range of addresses, with a race-checked cell for each system page.  Its
 * addresses are used again for the next one of its size, as the kernel does, if
 * not explore_new_addresses.
 */
static bool is_region(size_t align)
{
	return align > PAGE;
}

static void renew(struct mapping *m)
{
	m->mapped = true;
	for (size_t i = 0; i < m->bytes / PAGE; i++)
		memory_renew(&m->cell[i]);
}

static void *map_region(size_t bytes, size_t align)
{
	struct mapping *m = mappings;

	while (m->base && (m->mapped || m->bytes != bytes ||
			   explore_new_addresses))
		m++;
	if (m == &mappings[MAPPINGS - 1] || bytes / PAGE > MAPPING_PAGES)
		abort();
	if (!m->base) {
		m->base = (next_base + align - 1) & ~(align - 1);
		m->bytes = bytes;
		next_base = m->base + bytes;
	}
	renew(m);
	return (void *)m->base;
}

static struct mapping *mapping_of(const void *address)
{
	struct mapping *m = mappings;

	while (m->base && (uintptr_t)address - m->base >= m->bytes)
		m++;
	return m->base ? m : NULL;
}

struct explore_cell *explore_contents(const void *address)
{
	struct mapping *m = mapping_of(address);

	if (!m || !m->mapped)
		explore_fail("%p is not mapped", address);
	return &m->cell[((uintptr_t)address - m->base) / PAGE];
}

void *os_map(size_t bytes, size_t align)
{
	if (explore_maps_left == 0)
		return NULL;
	explore_maps_left--;
	return is_region(align) ? map_region(bytes, align) :
				  arena_take(bytes, align);
}

int os_unmap(void *base, size_t bytes)
{
	struct mapping *m = mapping_of(base);

	if (!m) {
		arena_give(base);
		return 0;
	}
	if (!m->mapped || m->bytes != bytes)
		explore_fail("unmap of what is not mapped");
	for (size_t i = 0; i < bytes / PAGE; i++)
		explore_free(&m->cell[i]);
	m->mapped = false;
	return 0;
}

/* As a write of zeros: whoever still uses it races with that.  Of what is no
 * region's, atomic objects that hold zeros: nothing. */
int os_discard(void *base, size_t bytes)
{
	if (!mapping_of(base))
		return -EINVAL;
	if (explore_advices_left == 0)
		return -ENOMEM;
	explore_advices_left--;
	for (size_t i = 0; i < bytes / PAGE; i++)
		explore_write(explore_contents((char *)base + i * PAGE), 0);
	return 0;
}

int os_use_small_pages(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	return 0;
}

int os_use_huge_pages(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	return 0;
}

int os_split_huge_page(void *page)
{
	(void)page;
	return 0;
}

int os_back(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	return 0;
}

/* ---- time and sleep ---- */

uint64_t os_now_ns(void)
{
	return explore_now_ns[explore_thread()];
}

void os_yield(void)
{
	explore_yield();
}

static bool is_woken(void *argument)
{
	return ((struct sleeper *)argument)->woken;
}

/* The kernel compares with the newest value, in one step with the sleep. */
void os_futex_wait(struct atomic_u32 *word, uint32_t expected,
		   uint64_t timeout_ns)
{
	struct sleeper *s = &sleepers[engine.current];

	explore_pause();
	if (word->word.value != expected)
		return;
	s->word = word;
	s->woken = false;
	engine_self()->timed = timeout_ns != OS_FOREVER;
	explore_wait(is_woken, s, "sleeps on a futex");
	s->word = NULL;
}

void os_futex_wake_all(struct atomic_u32 *word)
{
	explore_pause();
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (sleepers[i].word == word)
			sleepers[i].woken = true;
}

/* ---- sections ---- */

int os_membarrier_register(void)
{
	return 0;
}

/* Each other thread has its own moment for it, between two operations. */
int os_membarrier(void)
{
	unsigned self = explore_thread();

	if (explore_barriers_left == 0 && !no_barrier)
		return -EPERM;
	explore_barriers_left -= explore_barriers_left != 0;
	explore_pause();
	if (no_barrier || !engine.running)
		return 0;
	memory_barrier(self);
	for (unsigned i = 0; i < engine.threads; i++)
		if (i != self) {
			memory_barrier(i);
			engine_point();
		}
	memory_barrier(self);
	return 0;
}

/* ---- RCU ---- */

struct grace_period {
	bool waits[EXPLORE_THREADS];
	unsigned section[EXPLORE_THREADS];
};

void rcu_enter(void)
{
	struct thread *t = engine_self();

	if (!engine.running) {
		nesting_outside++;
		return;
	}
	if (t->nesting) {
		t->nesting++;
		return;
	}
	engine_point();
	t->nesting = 1;
	t->sections++;
	clock_join(&t->now, &grace_periods);
}

void rcu_leave(void)
{
	struct thread *t = engine_self();

	if (!engine.running) {
		nesting_outside--;
		return;
	}
	if (t->nesting == 0)
		explore_fail("leaves a read section that it is not in");
	if (t->nesting > 1) {
		t->nesting--;
		return;
	}
	engine_point();
	t->nesting = 0;
	t->now.at[engine.current]++;
	t->left = t->now;
}

bool rcu_inside(void)
{
	return engine.running ? engine_self()->nesting != 0 :
				nesting_outside != 0;
}

static bool is_over(void *argument)
{
	const struct grace_period *g = argument;

	for (unsigned i = 0; i < engine.threads; i++)
		if (g->waits[i] && engine.thread[i].nesting &&
		    engine.thread[i].sections == g->section[i])
			return false;
	return true;
}

void rcu_wait_for_readers(void)
{
	struct grace_period g;

	if (!engine.running || explore_no_grace_period)
		return;
	if (rcu_inside())
		explore_fail("waits for readers and is one");
	engine_point();
	clock_join(&grace_periods, &engine_self()->now);
	for (unsigned i = 0; i < engine.threads; i++) {
		g.waits[i] = engine.thread[i].nesting != 0;
		g.section[i] = engine.thread[i].sections;
	}
	explore_wait(is_over, &g, "waits for readers");
	for (unsigned i = 0; i < engine.threads; i++)
		clock_join(&engine_self()->now, &engine.thread[i].left);
}

/* ---- memory nodes: there is one ---- */

struct topology topology;

const struct numa_system *topology_system(void)
{
	return &os_numa;
}

const struct numa_system os_numa;

struct class_pool *place_pool(const struct place *place, unsigned k,
			      bool *ret_more)
{
	(void)place;
	(void)k;
	*ret_more = false;
	return NULL;
}

bool place_rests(const struct place *place, const struct class_pool *cp)
{
	(void)place;
	(void)cp;
	return false;
}

enum placed place_settle(struct class_pool *cp, struct taken *t, bool full)
{
	(void)cp;
	(void)t;
	return full ? PLACED_NOT : PLACED;
}

uint64_t place_make_room(const struct place *place, struct class_pool *cp,
			 uint64_t bytes)
{
	(void)place;
	(void)cp;
	(void)bytes;
	return 0;
}

bool place_is_valid(enum seg_policy policy, int node)
{
	(void)policy;
	(void)node;
	return true;
}

/* There is one node, as far as allocate and release know. */
struct class_pool *place_near(struct seg_pool *p, int class_index)
{
	(void)p;
	(void)class_index;
	abort();
}

struct place place_of_near(struct seg_pool *p, const struct class_pool *near)
{
	(void)p;
	(void)near;
	abort();
}

bool place_choose(struct seg_pool *p, int class_index, enum seg_policy policy,
		  int node, struct place *ret_place)
{
	(void)p;
	(void)class_index;
	(void)policy;
	(void)node;
	(void)ret_place;
	return false;
}

void place_count_take(const struct place *place, struct class_pool *cp)
{
	(void)place;
	(void)cp;
}

void place_count_give(struct class_pool *cp)
{
	(void)cp;
}

/* ---- what is told ---- */

int pool_misuse(struct seg_pool *p, enum seg_misuse what, const void *address)
{
	(void)p;
	if (explore_misuses_left == 0)
		explore_fail("misuse %d of %p", what, address);
	explore_misuses_left--;
	return -ESTALE;
}

void pool_refused(struct seg_pool *p, struct class_pool *cp, size_t bytes,
		  const struct limit_report *report)
{
	(void)p;
	(void)cp;
	(void)bytes;
	(void)report;
}

/* ---- lib/thread_slots.c: one user ---- */

static void *pointers[EXPLORE_THREADS];

unsigned thread_slot_claim(void (*end)(void *))
{
	(void)end;
	return 0;
}

void thread_slot_drop(unsigned slot)
{
	(void)slot;
	memset(pointers, 0, sizeof(pointers));
}

bool thread_slot_set(unsigned slot, void *pointer)
{
	(void)slot;
	pointers[explore_thread()] = pointer;
	return true;
}

void *explore_thread_slot(unsigned slot)
{
	return slot == THREAD_SLOTS ? NULL : pointers[explore_thread()];
}
