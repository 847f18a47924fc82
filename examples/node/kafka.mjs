// kafkajs with an LZ4 codec, which it does not include: the service compresses with LZ4.
import kafkajs from 'kafkajs'
import lz4 from 'lz4js'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs

CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})

const prefix = process.env.TOPIC_PREFIX ?? ''
export const topics = {
  commands: `${prefix}segments.commands`,
  results: `${prefix}segments.results`,
  history: `${prefix}segments.history`,
}

export const kafka = new Kafka({
  clientId: 'example',
  brokers: (process.env.KAFKA_BROKERS ?? '127.0.0.1:19092').split(','),
  logLevel: logLevel.ERROR,
  // Standard output is reserved for the examples' own output.
  logCreator: () => ({ log }) => console.error(log.message, log.error ?? ''),
})
