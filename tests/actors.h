/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that do one thing after another, as they are told, while the teller
 * waits: what several threads do, in a certain order.
 */
#ifndef SEG_TESTS_ACTORS_H
#define SEG_TESTS_ACTORS_H

#include "pools.h"

struct actor {
	pthread_t thread;
	sem_t go, done;
	void (*act)(void *arg);		/* NULL: the end */
	void *arg;
};

static inline void *actor_main(void *actor)
{
	struct actor *a = actor;

	for (;;) {
		wait_for(&a->go);
		if (!a->act)
			return NULL;
		a->act(a->arg);
		sem_post(&a->done);
	}
}

static inline void actor_begin(struct actor *a)
{
	require(!sem_init(&a->go, 0, 0) && !sem_init(&a->done, 0, 0));
	require(!pthread_create(&a->thread, NULL, actor_main, a));
}

/* It may be that it waits there for something: see actor_await(). */
static inline void actor_start(struct actor *a, void (*act)(void *arg),
			       void *arg)
{
	a->act = act;
	a->arg = arg;
	sem_post(&a->go);
}

static inline void actor_await(struct actor *a)
{
	wait_for(&a->done);
}

static inline void actor_do(struct actor *a, void (*act)(void *arg), void *arg)
{
	actor_start(a, act, arg);
	actor_await(a);
}

static inline void actor_end(struct actor *a)
{
	actor_start(a, NULL, NULL);
	require(!pthread_join(a->thread, NULL));
	sem_destroy(&a->go);
	sem_destroy(&a->done);
}

#endif
