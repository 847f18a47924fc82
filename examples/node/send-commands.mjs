// Send commands to the segmentation service and wait for their results.
//
//     npm ci
//     node send-commands.mjs USER_ID
//
// Creates a segment, adds the user to it for a week, creates another one for half of all users,
// and prints the result of each command as a line of JSON.
import { randomUUID } from 'node:crypto'
import { kafka, topics } from './kafka.mjs'

const TIMEOUT_MS = 60_000

const userId = process.argv[2]
if (!userId) {
  console.error('usage: node send-commands.mjs USER_ID')
  process.exit(1)
}

const segment = `example-${randomUUID().slice(0, 8)}`
// Repeating an id changes nothing, so a command can be sent again when in doubt.
const commands = [
  { type: 'create_segment', id: randomUUID(), segment },
  // No need to wait: a command that names a new segment is deferred until its definition arrives.
  {
    type: 'change_memberships',
    id: randomUUID(),
    actor: 'example',
    user_id: userId,
    add: [{ segment, ttl: 'P7D' }],
  },
  {
    type: 'create_segment',
    id: randomUUID(),
    segment: `${segment}-half`,
    auto: { percent: 50 },
  },
]

const waiting = new Set(commands.map((command) => command.id))
let done
const allThere = new Promise((resolve) => (done = resolve))

// Start at the current end of every partition.
const admin = kafka.admin()
await admin.connect()
const ends = await admin.fetchTopicOffsets(topics.results)
await admin.disconnect()

const results = kafka.consumer({ groupId: `example-results-${randomUUID()}`, maxWaitTimeInMs: 500 })
await results.connect()
await results.subscribe({ topic: topics.results })
await results.run({
  autoCommit: false,
  eachMessage: async ({ message }) => {
    const result = JSON.parse(message.value)
    if (waiting.delete(result.command_id)) console.log(JSON.stringify(result))
    if (waiting.size === 0) done()
  },
})
for (const { partition, offset } of ends) {
  results.seek({ topic: topics.results, partition, offset })
}

const producer = kafka.producer()
await producer.connect()
await producer.send({
  topic: topics.commands,
  // Commands with the same key keep their order.
  messages: commands.map((command) => ({
    key: command.user_id ?? command.segment,
    value: JSON.stringify(command),
  })),
})
await producer.disconnect()

const timeout = setTimeout(done, TIMEOUT_MS)
await allThere
clearTimeout(timeout)
await results.disconnect()
if (waiting.size > 0) {
  console.error(`no result of ${[...waiting].join(', ')}`)
  process.exit(1)
}
